//! The time of a whole step where it runs: its plan's makespans, and the part that no plan changes.

use lengthwise_core::{Cluster, GlobalBatch, MicroBatch, Plan, Seconds};

use crate::{CoreSharing, CostModel, FittedModel, predict_group};

/// The measured costs of a machine: planners choose by its [`FittedModel`], a run is predicted by all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepModel {
    /// The costs that planners go by: the times of groups while all ranks compute.
    pub cost: FittedModel,
    /// The time of a step beyond its micro-batches: gradient norm, clipping, optimiser.
    pub step_overhead: Seconds,
    /// How ranks share cores.
    pub sharing: CoreSharing,
}

impl StepModel {
    /// When each group of a micro-batch ends, the micro-batch's overhead not counted.
    pub fn group_ends(
        &self,
        micro_batch: &MicroBatch,
        batch: &GlobalBatch,
        cluster: &Cluster,
    ) -> Vec<Seconds> {
        let groups: Vec<_> = micro_batch
            .groups
            .iter()
            .map(|group| {
                let alone = predict_group(group, batch, cluster, &self.cost);
                (group.degree(), alone)
            })
            .collect();
        self.sharing.end_times(&groups)
    }

    /// The time of a micro-batch.
    pub fn predict_micro_batch(
        &self,
        micro_batch: &MicroBatch,
        batch: &GlobalBatch,
        cluster: &Cluster,
    ) -> Seconds {
        let ends = self.group_ends(micro_batch, batch, cluster);
        self.cost.micro_batch_overhead() + ends.into_iter().fold(Seconds::ZERO, Seconds::max)
    }

    /// The time of a step.
    pub fn predict_step(&self, plan: &Plan, batch: &GlobalBatch, cluster: &Cluster) -> Seconds {
        let micro_batches = plan.micro_batches().iter();
        let makespans: Seconds = micro_batches
            .map(|micro_batch| self.predict_micro_batch(micro_batch, batch, cluster))
            .sum();
        makespans + self.step_overhead
    }
}
