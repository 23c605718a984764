//! Searches side by side.

use std::panic::resume_unwind;
use std::thread;

/// How many searches there are, on however many threads: what each finds does not depend on the others, so that the plan
/// does not depend on the number of threads.
pub(crate) const NUM_LANES: usize = 2;

/// The results of all lanes, found at the same time where there are threads for it.
pub(crate) fn in_lanes<T: Send>(
    num_threads: usize,
    search: impl Fn(usize) -> T + Sync,
) -> [T; NUM_LANES] {
    if num_threads < NUM_LANES {
        return std::array::from_fn(search);
    }
    let search = &search;
    thread::scope(|scope| {
        let lanes: [_; NUM_LANES] =
            std::array::from_fn(|lane| (lane > 0).then(|| scope.spawn(move || search(lane))));
        let first = search(0);
        let mut first = Some(first);
        lanes.map(|lane| match lane {
            Some(lane) => lane.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => first
                .take()
                .expect("only the first lane runs on this thread"),
        })
    })
}
