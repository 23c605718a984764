//! What planners can be told.

use std::time::Duration;

/// What planners can be told beside the problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannerOptions {
    /// How long planning may take; without it the effort depends on the problem alone, so that the same input gives
    /// the same plan.
    pub time_budget: Option<Duration>,
}

impl PlannerOptions {
    /// These options with a time budget.
    #[must_use]
    pub const fn with_time_budget(mut self, time_budget: Duration) -> Self {
        self.time_budget = Some(time_budget);
        self
    }
}
