//! The planner that uses one degree for all groups of all micro-batches.

use std::time::Instant;

use lengthwise_core::{Degree, Strategy};

use crate::bound::Effort;
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::homogeneous::pack;
use crate::instance::Instance;
use crate::{PlanError, Planned, Planner, Problem};

/// One degree for all: what systems do that fix their groups before training starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Static {
    degree: Option<Degree>,
}

impl Static {
    /// The smallest degree that the longest sequence fits; it differs from batch to batch.
    pub const fn longest_decides() -> Self {
        Static { degree: None }
    }

    /// The same degree for every batch.
    pub const fn with_degree(degree: Degree) -> Self {
        Static {
            degree: Some(degree),
        }
    }

    fn pack(&self, instance: &Instance<'_>) -> Result<Draft, PlanError> {
        let space = instance.problem.space;
        let Some(degree) = self.degree else {
            let packed = space
                .strategies()
                .iter()
                .find_map(|&strategy| pack(instance, strategy));
            let largest = instance.largest_degree();
            return packed.ok_or_else(|| instance.does_not_fit_degree(largest));
        };
        let fixed: Strategy = space
            .strategies()
            .iter()
            .copied()
            .find(|strategy| strategy.degree() == degree)
            .filter(|_| degree.get() <= instance.problem.cluster.num_devices())
            .ok_or_else(|| PlanError::DegreeNotAvailable {
                degree: degree.get(),
                available: instance.available_degrees(),
            })?;
        pack(instance, fixed).ok_or_else(|| instance.does_not_fit_degree(degree))
    }
}

impl Planner for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let draft = self.pack(&instance)?;
        let effort = Effort::until(Deadline::default());
        Ok(Planned::of(draft, &instance, 1, effort, started))
    }
}
