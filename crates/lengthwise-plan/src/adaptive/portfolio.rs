//! A portfolio: searches of one problem with different policies and random numbers, of which the best result counts.

use std::panic::resume_unwind;
use std::thread;

/// The number of searches, on any number of threads. Their results do not depend on each other, and so the plan does not
/// depend on the number of threads.
pub(crate) const NUM_SEARCHES: usize = 2;

/// The results of all members of the portfolio, in parallel where there are threads for it. `search` gets the member's index.
pub(crate) fn in_portfolio<T: Send>(
    num_threads: usize,
    search: impl Fn(usize) -> T + Sync,
) -> [T; NUM_SEARCHES] {
    if num_threads < NUM_SEARCHES {
        return std::array::from_fn(search);
    }
    let search = &search;
    thread::scope(|scope| {
        let searches: [_; NUM_SEARCHES] =
            std::array::from_fn(|member| (member > 0).then(|| scope.spawn(move || search(member))));
        let first = search(0);
        let mut first = Some(first);
        searches.map(|member| match member {
            Some(member) => member.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => first
                .take()
                .expect("only the first search runs on this thread"),
        })
    })
}
