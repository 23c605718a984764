//! What planning may take.

use std::num::NonZero;
use std::time::Duration;

use clap::Args;
use lengthwise_core::limits::THREADS;
use lengthwise_plan::{PlannerKind, PlannerOptions};

use super::duration;
use crate::failure::Failure;

/// What planning may take.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlanningLimits {
    /// How long planning may take, for example 10ms; by default the effort depends on the batch alone.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_budget: Option<Duration>,
    /// How many threads to plan on; the plan does not depend on it.
    #[arg(long, value_name = "N", default_value_t = NonZero::<usize>::MIN, value_parser = threads)]
    pub threads: NonZero<usize>,
    /// How many communicators all plans together may need; the adaptive planner then uses only degrees whose groups
    /// recur.
    #[arg(long, value_name = "N")]
    pub max_communicators: Option<u32>,
}

impl PlanningLimits {
    /// What these planners are told.
    ///
    /// # Errors
    ///
    /// Communicators are limited, and none of the planners keeps the limit.
    pub fn options(self, planners: &[PlannerKind]) -> Result<PlannerOptions, Failure> {
        let keeps = |kind: &PlannerKind| kind.keeps_max_communicators();
        if self.max_communicators.is_some() && !planners.iter().any(keeps) {
            let names: Vec<String> = planners.iter().map(PlannerKind::to_string).collect();
            let names = names.join(", ");
            let failure = Failure::input(format!(
                "--max-communicators: it is not kept by the planner {names}"
            ));
            return Err(failure.hint("leave it out, or use the adaptive planner"));
        }
        let mut options = PlannerOptions::default().with_num_threads(self.threads);
        if let Some(time_budget) = self.time_budget {
            options = options.with_time_budget(time_budget);
        }
        if let Some(max_communicators) = self.max_communicators {
            options = options.with_max_communicators(max_communicators);
        }
        Ok(options)
    }
}

fn threads(text: &str) -> Result<NonZero<usize>, String> {
    let count = THREADS.read(text)?;
    let count = usize::try_from(count).ok().and_then(NonZero::new);
    count.ok_or_else(|| format!("it must be {THREADS}"))
}
