//! Events that are to come.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use lengthwise_network::FlowEnd;

use super::program::CallId;

/// All of them, in the order of their time; those of one instant in the order they were foreseen.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Foreseen>,
    num_foreseen: u64,
}

impl Agenda {
    /// Adds an event.
    pub fn add(&mut self, time: f64, event: Event) {
        self.heap.push(Foreseen {
            time,
            order: self.num_foreseen,
            event,
        });
        self.num_foreseen += 1;
    }

    /// The next event.
    pub fn next(&mut self) -> Option<Foreseen> {
        self.heap.pop()
    }

    /// Whether nothing more is to happen at `now`.
    pub fn has_passed(&self, now: f64) -> bool {
        self.heap.peek().is_none_or(|next| next.time > now)
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    WorkDone { process: u32, start: f64 },
    LatencyPassed(CallId),
    FlowDone(FlowEnd),
}

/// An event at its time.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen {
    pub time: f64,
    order: u64,
    pub event: Event,
}

impl PartialEq for Foreseen {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Foreseen {}

impl PartialOrd for Foreseen {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The greatest is the next: the earliest, and of those the one foreseen first.
impl Ord for Foreseen {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = other.time.total_cmp(&self.time);
        by_time.then(other.order.cmp(&self.order))
    }
}
