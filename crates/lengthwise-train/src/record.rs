//! The records that a run hands out while it goes on, and at its end.

use std::sync::Arc;

use lengthwise_core::{Bytes, GlobalBatch, Plan, Seconds, TraceEvent};
use lengthwise_outputs::Saved;
use lengthwise_plan::PlanReport;

use crate::checkpoint::SavedCheckpoint;
use crate::{ExportError, ValidationRecord};

use lengthwise_data::BatchOrigin;

/// One optimiser step.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: u64,
    /// Mean loss of a label, in nats, before the update; `None` where no token of the batch has one.
    pub loss: Option<f64>,
    /// Global norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Sequences in the global batch.
    pub num_sequences: usize,
    /// Tokens in the global batch.
    pub num_tokens: u64,
    /// Those of them that are trained to predict the next: what the loss is a mean of.
    pub num_labels: u64,
    /// Where in the corpus they come from.
    pub origin: BatchOrigin,
    /// The lengths that were planned.
    pub batch: GlobalBatch,
    /// The plan that it was run by.
    pub plan: Plan,
    /// When each group of each micro-batch was predicted to end, without the micro-batch's overhead.
    pub predicted_groups: Vec<Vec<Seconds>>,
    /// Of a micro-batch.
    pub predicted_overhead: Seconds,
    /// The predicted time of the step beside its micro-batches.
    pub predicted_step_overhead: Seconds,
    /// The planner's report of it.
    pub report: PlanReport,
    /// The time of the whole step that was predicted with the plan: its makespans where ranks share cores, and what
    /// comes beside them.
    pub predicted: Seconds,
    /// The number of times that the costs had been refined before the step was planned.
    pub costs_version: u64,
    /// The median of how far predictions were off in the last steps, this one included, as a part of what was measured.
    pub recent_error: f64,
    /// Wall time of the step, waiting for the plan excluded.
    pub measured: Seconds,
    /// The same by the clocks of an emulated cluster's devices: what it would be on a machine that is never late.
    pub emulated: Option<Seconds>,
    /// The parts of every rank's time, by rank; each adds up to the step's, by clocks where a cluster is emulated.
    pub rank_times: Vec<RankTime>,
    /// The time that training waited for the plan.
    pub plan_wait: Seconds,
    /// The most memory a device held.
    pub measured_peak_memory: Bytes,
    /// The most memory a device was predicted to hold.
    pub predicted_peak_memory: Bytes,
    /// The most memory of its host that a device held.
    pub measured_peak_host_memory: Bytes,
    /// The most memory of its host that a device was predicted to hold.
    pub predicted_peak_host_memory: Bytes,
    /// Distinct groups of ranks created so far, that of all ranks included.
    pub num_groups: usize,
    /// The loss of held-out batches after the step, where it was computed.
    pub validation: Option<ValidationRecord>,
}

impl StepRecord {
    /// Tokens trained on in a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.num_tokens as f64 / self.measured.get()
    }

    /// By what part of the measured time the predicted one exceeds it.
    pub fn prediction_error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

/// The parts of one rank's time in a step, by its own clock: a rank that shares a processor with others also
/// computes while it is their turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankTime {
    /// All that is not a call to other ranks.
    pub compute: Seconds,
    /// Passing data on: exchanges, gathers and scatters, without waiting for others.
    pub exchange: Seconds,
    /// Waiting for other ranks, up to the end of the step.
    pub wait: Seconds,
}

/// Watches a run. Called on one thread, in the order of the steps.
pub trait TrainObserver: Send {
    /// Something is probably not as the user wants it.
    fn warned(&mut self, _message: &str) {}
    /// The costs have been measured, which took this long.
    fn calibrated(&mut self, took: Seconds);
    /// The costs are those of the state that is gone on from; [`TrainObserver::calibrated`] is told next.
    fn costs_resumed(&mut self) {}
    /// A state was saved, or could not be. Called on another thread than the rest, while steps go on.
    fn saved(&mut self, _saved: &SavedCheckpoint) {}
    /// The events of every rank in a step that was to be traced, which [`TrainObserver::step`] is told of next.
    fn traced(&mut self, _step: u64, _events: &[TraceEvent]) {}
    /// A step has ended.
    fn step(&mut self, record: &StepRecord);
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct TrainSummary {
    /// Steps that ran.
    pub steps: u64,
    /// Tokens trained on.
    pub num_tokens: u64,
    /// Sequences trained on.
    pub num_sequences: u64,
    /// Parameters of the model.
    pub num_parameters: u64,
    /// Time of all steps.
    pub measured: Seconds,
    /// Time of all evaluations of held-out batches, which is in no step's.
    pub validation: Seconds,
    /// Time spent waiting for plans.
    pub plan_wait: Seconds,
    /// Time spent measuring costs.
    pub calibration: Seconds,
    /// Distinct groups of ranks that were created.
    pub num_groups: usize,
    /// The most memory a device held.
    pub measured_peak_memory: Bytes,
    /// The most memory of its host that a device held.
    pub measured_peak_host_memory: Bytes,
    /// The time that training stood still for states to be copied, or written.
    pub saving: Seconds,
    /// The step behind which it was asked to stop, if it was.
    pub stopped: Option<u64>,
    /// Where the trained model is, if it was to be written.
    pub export: Option<Result<Saved, Arc<ExportError>>>,
}
