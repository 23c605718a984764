//! The loss of a batch by forward passes alone.

use lengthwise_comm::Communicator;
use lengthwise_core::{MicroBatch, Plan};
use lengthwise_data::TokenBatch;

use super::Executor;
use super::gather::Gathers;
use super::group_run::{GroupRun, Purpose};
use super::stage::{ScheduledStage, forward_stages};
use super::work::RankWork;
use crate::TrainError;

impl<C: Communicator> Executor<C> {
    /// The loss of `batch`, summed over the labels that this rank has seen, by the forward passes of `plan`: no layer's
    /// activations outlive it, and gradients are left as they are.
    ///
    /// # Errors
    ///
    /// As [`Executor::accumulate_gradients`].
    pub fn evaluate(&self, plan: &Plan, batch: &TokenBatch) -> Result<f64, TrainError> {
        let stages = forward_stages(self.spec(), self.config().tied_output);
        let micro_batches = plan.micro_batches().iter();
        micro_batches
            .map(|micro_batch| self.evaluate_micro_batch(&stages, micro_batch, batch))
            .sum()
    }

    fn evaluate_micro_batch(
        &self,
        stages: &[ScheduledStage],
        micro_batch: &MicroBatch,
        batch: &TokenBatch,
    ) -> Result<f64, TrainError> {
        let mut run = match micro_batch.group_of(self.world.rank()) {
            Some((group, group_rank)) => {
                let (at_place, ring) = self.neighbours(group, group_rank)?;
                Some(GroupRun::new(
                    &self.config,
                    self.spec(),
                    at_place,
                    ring,
                    &self.timeline,
                    RankWork::new(&self.config, group, group_rank, batch),
                    Purpose::Evaluate,
                ))
            }
            None => None,
        };
        let mut gathers = Gathers::start(&self.world, stages, &self.parameters)?;
        for stage in stages {
            let mut parameters = Vec::with_capacity(stage.gathers.len());
            for _ in &stage.gathers {
                parameters.extend(gathers.next(&self.parameters, run.is_some())?);
            }
            if let Some(run) = &mut run {
                run.run(stage.stage, parameters)?;
            }
        }
        Ok(run.map_or(0.0, |run| run.loss_sum()))
    }
}
