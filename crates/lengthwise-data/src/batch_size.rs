//! When a batch is full.

use lengthwise_core::Tokens;
use lengthwise_core::limits::{BATCH_SEQUENCES, BATCH_TOKENS};

use crate::DataError;

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As many sequences as come next without exceeding this many tokens; a single sequence may exceed it alone.
    Tokens(Tokens),
    /// This many sequences.
    Sequences(usize),
}

impl BatchSize {
    /// Checks that a batch of this size can be held.
    ///
    /// # Errors
    ///
    /// It is beyond the limits of batches.
    pub fn check(self) -> Result<(), DataError> {
        let (what, size, limit) = match self {
            BatchSize::Tokens(tokens) => ("tokens", tokens.0, BATCH_TOKENS),
            BatchSize::Sequences(num) => ("sequences", num as u64, BATCH_SEQUENCES),
        };
        match limit.holds(size) {
            true => Ok(()),
            false => Err(DataError::BatchSize { what, size, limit }),
        }
    }

    /// Whether a batch of so many sequences and tokens takes one of `next` tokens too. An empty one takes any.
    pub(crate) fn takes(self, num_sequences: usize, num_tokens: u64, next: u64) -> bool {
        num_sequences == 0
            || (num_sequences as u64) < BATCH_SEQUENCES.most
                && match self {
                    BatchSize::Tokens(limit) => num_tokens.saturating_add(next) <= limit.0,
                    BatchSize::Sequences(limit) => num_sequences < limit,
                }
    }
}
