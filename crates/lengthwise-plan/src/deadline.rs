//! The deadline of a search.

use std::time::{Duration, Instant};

/// A moment not to work past, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// The end of the first `share` of a time budget.
    pub(crate) fn after(started: Instant, budget: Option<Duration>, share: f64) -> Self {
        Deadline(budget.and_then(|budget| started.checked_add(budget.mul_f64(share))))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }
}
