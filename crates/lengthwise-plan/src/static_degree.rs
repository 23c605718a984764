//! The planner that uses one degree for all groups of all micro-batches.

use std::time::Instant;

use lengthwise_core::Degree;

use crate::bound::{Effort, Keep};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::homogeneous::pack_degree;
use crate::instance::Instance;
use crate::rules::keeping_rules;
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
                .degrees()
                .find_map(|degree| pack_degree(instance, degree));
            let largest = instance.largest_degree();
            return packed.ok_or_else(|| instance.does_not_fit_degree(largest));
        };
        let num_devices = instance.problem.cluster.num_devices();
        if degree.get() > num_devices || !space.degrees().any(|of| of == degree) {
            return Err(PlanError::DegreeNotAvailable {
                degree: degree.get(),
                available: instance.available_degrees(),
            });
        }
        pack_degree(instance, degree).ok_or_else(|| instance.does_not_fit_degree(degree))
    }
}

impl Planner for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl Static {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let draft = self.pack(&instance)?;
        let effort = Effort::until(Deadline::default()).keeping(keep);
        let planned = Planned::of(draft, &instance, 1, effort, started);
        keeping_rules(planned, problem, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Size, cases, sample};

    #[test]
    fn only_degrees_of_the_space_that_the_cluster_has_ranks_for_are_available() {
        let size = Size {
            num_nodes: 2,
            devices_per_node: 3,
            num_sequences: 5,
            seq_len: 20_000,
        };
        let [mut num_planned, mut num_beyond, mut num_unlisted] = [0, 0, 0];
        for case in sample(cases(size), 140, 200) {
            for degree in 1..12 {
                let degree = Degree::new(degree).unwrap();
                let is_beyond = degree.get() > case.cluster.num_devices();
                let is_listed = case.space.degrees().any(|of| of == degree);
                match Static::with_degree(degree).plan(case.problem()) {
                    Ok(planned) => {
                        num_planned += 1;
                        assert!(is_listed && !is_beyond);
                        let degrees = planned.plan.degrees().concat();
                        assert!(degrees.iter().all(|&of| of == degree));
                    }
                    Err(PlanError::DegreeNotAvailable { degree: of, .. }) => {
                        assert_eq!(of, degree.get());
                        assert!(is_beyond || !is_listed);
                        num_beyond += usize::from(is_listed);
                        num_unlisted += usize::from(!is_beyond);
                    }
                    // Some sequence does not fit.
                    Err(_) => {}
                }
            }
        }
        assert!(num_planned > 100 && num_beyond > 20 && num_unlisted > 100);
    }
}
