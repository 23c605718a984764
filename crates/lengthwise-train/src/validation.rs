//! Validation of a run: batches that are never trained on, and when their loss is computed.

use std::num::NonZero;
use std::sync::Arc;

use lengthwise_core::Seconds;
use lengthwise_data::TokenBatch;

/// The held-out batches of a run.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The same each time; some target must be a label.
    pub batches: Arc<[TokenBatch]>,
    /// They are evaluated after so many steps each, and after the last.
    pub every: NonZero<u64>,
}

impl Validation {
    /// Whether the loss is computed after this step of a run of `steps`.
    pub fn is_due(&self, step: u64, steps: u64) -> bool {
        step.is_multiple_of(self.every.get()) || step == steps
    }

    /// The targets that the loss is a mean of.
    pub fn num_labels(&self) -> u64 {
        self.batches.iter().map(TokenBatch::num_labels).sum()
    }

    /// The tokens of all batches.
    pub fn num_tokens(&self) -> u64 {
        let sequences = self.batches.iter().flat_map(|batch| &batch.sequences);
        sequences.map(|sequence| sequence.seq_len().0).sum()
    }
}

/// One evaluation of the held-out batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidationRecord {
    /// Mean loss of a label, in nats, by the parameters that the step's update has left.
    pub loss: f64,
    /// The labels.
    pub num_labels: u64,
    /// The tokens.
    pub num_tokens: u64,
    /// The predicted time of the forward passes.
    pub predicted: Seconds,
    /// Their measured time; no part of the step's time.
    pub measured: Seconds,
}
