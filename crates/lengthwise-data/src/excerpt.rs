//! A sequence, as a place in a document.

use std::ops::Range;

use lengthwise_core::Tokens;

use crate::{BatchOrigin, CutRule, Overlong};

/// Some tokens of a document that are a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Counted from 0.
    pub document: u64,
    /// Which of its tokens; at least one.
    pub tokens: Range<u64>,
}

impl Excerpt {
    /// How many tokens the sequence has.
    pub fn seq_len(&self) -> Tokens {
        Tokens(self.tokens.end - self.tokens.start)
    }
}

/// The sequences of one optimiser step, before they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledBatch {
    /// At least one.
    pub excerpts: Vec<Excerpt>,
    /// Where they come from.
    pub origin: BatchOrigin,
}

impl BatchOrigin {
    /// Counts a sequence of a document of `num_document_tokens`.
    pub(crate) fn count(&mut self, rule: &CutRule, num_document_tokens: u64) {
        let rest = num_document_tokens.saturating_sub(rule.context.0.max(1));
        if rest > 0 && rule.overlong == Overlong::Split {
            self.num_pieces += 1;
        } else if rest > 0 {
            self.num_truncated += 1;
            self.num_cut_tokens += rest;
        }
    }
}
