//! Options of planners.

use std::num::NonZero;
use std::time::Duration;

/// Settings of planners beyond the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannerOptions {
    /// How long planning may take; without it the effort depends on the problem alone, so that the same input gives
    /// the same plan.
    pub time_budget: Option<Duration>,
    /// How many threads to plan on; the plan does not depend on it.
    pub num_threads: NonZero<usize>,
    /// How many communicators all plans together may need, where each takes memory for as long as training lasts: only
    /// degrees whose groups always lie at the same places are used, as many of them as this allows. Predicted times
    /// and bounds are those of what is left to choose from. Needs equal nodes of equal devices.
    pub max_communicators: Option<u32>,
}

impl Default for PlannerOptions {
    fn default() -> Self {
        PlannerOptions {
            time_budget: None,
            num_threads: NonZero::<usize>::MIN,
            max_communicators: None,
        }
    }
}

impl PlannerOptions {
    /// These options with a time budget.
    #[must_use]
    pub const fn with_time_budget(mut self, time_budget: Duration) -> Self {
        self.time_budget = Some(time_budget);
        self
    }

    /// These options with so many threads.
    #[must_use]
    pub const fn with_num_threads(mut self, num_threads: NonZero<usize>) -> Self {
        self.num_threads = num_threads;
        self
    }

    /// These options with a bound on communicators.
    #[must_use]
    pub const fn with_max_communicators(mut self, max_communicators: u32) -> Self {
        self.max_communicators = Some(max_communicators);
        self
    }
}
