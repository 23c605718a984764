//! The planner that uses the best single degree for each batch.

use std::time::Instant;

use crate::bound::{Effort, Keep};
use crate::deadline::Deadline;
use crate::homogeneous::pack_best;
use crate::instance::Instance;
use crate::rules::keeping_rules;
use crate::{PlanError, Planned, Planner, Problem};

/// The best single degree for each batch, with sequences packed best fit decreasing: what can be had without mixing
/// degrees.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchAdaptive;

impl Planner for BatchAdaptive {
    fn name(&self) -> &'static str {
        "batch-adaptive"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl BatchAdaptive {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let draft = pack_best(&instance)
            .ok_or_else(|| instance.does_not_fit_degree(instance.largest_degree()))?;
        let num_drafts = problem.space.strategies().len();
        let effort = Effort::until(Deadline::default()).keeping(keep);
        let planned = Planned::of(draft, &instance, num_drafts, effort, started);
        keeping_rules(planned, problem, self.name())
    }
}
