//! When a batch is full.

use lengthwise_core::Tokens;

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As many sequences as come next without exceeding this many tokens; a single sequence may exceed it alone.
    Tokens(Tokens),
    /// This many sequences, at least 1.
    Sequences(usize),
}

impl BatchSize {
    /// Whether a batch of so many sequences and tokens takes one of `next` tokens too. An empty one takes any.
    pub(crate) fn takes(self, num_sequences: usize, num_tokens: u64, next: u64) -> bool {
        num_sequences == 0
            || match self {
                BatchSize::Tokens(limit) => num_tokens.saturating_add(next) <= limit.0,
                BatchSize::Sequences(limit) => num_sequences < limit,
            }
    }
}
