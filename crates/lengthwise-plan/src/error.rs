//! Why a batch can't be planned.

use lengthwise_core::{Bytes, SequenceIndex, Tokens};
use thiserror::Error;

/// Why a batch can't be planned.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A sequence that fits no group of the cluster.
    #[error(
        "sequence {sequence} of {seq_len} tokens needs {predicted_memory} on each device even at degree {degree}, \
         the best there is; the budget is {budget}"
    )]
    DoesNotFit {
        /// The longest such sequence.
        sequence: SequenceIndex,
        /// Its length.
        seq_len: Tokens,
        /// What it needs at `degree`.
        predicted_memory: Bytes,
        /// The degree at which it needs the least.
        degree: u32,
        /// What the devices of such a group have for sequences.
        budget: Bytes,
    },
}
