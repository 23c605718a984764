//! What planning may take.

use std::num::NonZero;
use std::time::Duration;

use clap::Args;
use lengthwise_plan::PlannerOptions;

use super::duration;

/// What planning may take.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlanningLimits {
    /// How long planning may take, for example 10ms; by default the effort depends on the batch alone.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_budget: Option<Duration>,
    /// How many threads to plan on; the plan does not depend on it.
    #[arg(long, value_name = "N", default_value_t = NonZero::<usize>::MIN)]
    pub threads: NonZero<usize>,
    /// How many communicators all plans together may need; the adaptive planner then uses only degrees whose groups
    /// recur.
    #[arg(long, value_name = "N")]
    pub max_communicators: Option<u32>,
}

impl PlanningLimits {
    /// What planners are told.
    pub fn options(self) -> PlannerOptions {
        let mut options = PlannerOptions::default().with_num_threads(self.threads);
        if let Some(time_budget) = self.time_budget {
            options = options.with_time_budget(time_budget);
        }
        if let Some(max_communicators) = self.max_communicators {
            options = options.with_max_communicators(max_communicators);
        }
        options
    }
}
