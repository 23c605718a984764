//! A portfolio: searches of one problem with different policies and random numbers, of which the best result counts.

use std::panic::resume_unwind;
use std::thread;

/// The number of searches, on any number of threads. Their results do not depend on each other, and so the plan does not
/// depend on the number of threads.
pub(crate) const NUM_SEARCHES: usize = 2;

/// The results of all members of the portfolio, in parallel where there are threads for it. `search` gets the member's index,
/// and what is handed to it.
pub(crate) fn in_portfolio<M: Send, T: Send>(
    num_threads: usize,
    handed: [M; NUM_SEARCHES],
    search: impl Fn(usize, M) -> T + Sync,
) -> [T; NUM_SEARCHES] {
    let mut members = 0..;
    let handed = handed.map(|handed| (members.next().unwrap_or(0), handed));
    if num_threads < NUM_SEARCHES {
        return handed.map(|(member, handed)| search(member, handed));
    }
    let search = &search;
    thread::scope(|scope| {
        let mut of_first = None;
        let searches = handed.map(|(member, handed)| {
            if member == 0 {
                of_first = Some(handed);
                return None;
            }
            Some(scope.spawn(move || search(member, handed)))
        });
        let mut first = of_first.map(|handed| search(0, handed));
        searches.map(|member| match member {
            Some(member) => member.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => first
                .take()
                .expect("only the first search runs on this thread"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_run_on_threads_of_their_own_where_there_are_enough_and_results_are_in_order() {
        for num_threads in 1..=NUM_SEARCHES + 1 {
            let results = in_portfolio(num_threads, [10, 11], |member, handed| {
                assert_eq!(handed, 10 + member);
                (member, thread::current().id())
            });
            let here = thread::current().id();
            for (member, (of, thread)) in results.into_iter().enumerate() {
                assert_eq!(of, member);
                assert_eq!(thread == here, member == 0 || num_threads < NUM_SEARCHES);
            }
        }
    }
}
