//! A scheduler of cores: as many ranks compute at once as there are cores, those first whose virtual clocks are furthest
//! behind.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::rendezvous::lock;

/// Turns, of which there are as many as ranks may compute at once.
#[derive(Debug)]
pub struct CoreScheduler {
    state: Mutex<State>,
    /// One for each rank.
    granted: Vec<Condvar>,
}

#[derive(Debug)]
struct State {
    num_free: usize,
    /// The ranks that wait, by the nanoseconds of their clocks.
    waiting: BTreeSet<(u128, usize)>,
}

impl CoreScheduler {
    /// `num_turns` turns for `num_ranks` ranks.
    pub fn new(num_turns: usize, num_ranks: usize) -> Self {
        CoreScheduler {
            state: Mutex::new(State {
                num_free: num_turns.max(1),
                waiting: BTreeSet::new(),
            }),
            granted: (0..num_ranks).map(|_| Condvar::new()).collect(),
        }
    }

    /// Waits for a turn of `rank`, whose clock shows `clock` seconds.
    pub fn take(&self, rank: usize, clock: f64) {
        let place = ((clock.max(0.0) * 1e9) as u128, rank);
        let mut state = lock(&self.state);
        if state.num_free > 0 && state.waiting.is_empty() {
            state.num_free -= 1;
            return;
        }
        state.waiting.insert(place);
        // A rank that gives its turn back hands it on by taking the next one off the list.
        while state.waiting.contains(&place) {
            state = self.granted[rank]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a turn back.
    pub fn give_back(&self) {
        let mut state = lock(&self.state);
        match state.waiting.pop_first() {
            Some((_, next)) => self.granted[next].notify_one(),
            None => state.num_free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_go_to_who_is_furthest_behind() {
        let core_scheduler = CoreScheduler::new(1, 4);
        let (sender, order) = mpsc::channel();
        core_scheduler.take(0, 0.0);
        thread::scope(|scope| {
            for (rank, clock) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
                let (core_scheduler, sender) = (&core_scheduler, sender.clone());
                scope.spawn(move || {
                    core_scheduler.take(rank, clock);
                    sender.send(rank).unwrap();
                    core_scheduler.give_back();
                });
            }
            while lock(&core_scheduler.state).waiting.len() < 3 {
                thread::sleep(Duration::from_millis(1));
            }
            core_scheduler.give_back();
        });
        drop(sender);
        assert_eq!(order.into_iter().collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!(lock(&core_scheduler.state).num_free, 1);
    }
}
