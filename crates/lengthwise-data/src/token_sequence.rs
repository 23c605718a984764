//! Input of training: sequences of ids, and the batches they are in.

use std::sync::Arc;

use lengthwise_core::{GlobalBatch, Tokens};

use crate::Position;

/// The ids of one sequence: every one but the first is a target, predicted from all before it. Targets that are trained
/// on are labels: all of them, or those of an answer and not of what was asked.
///
/// ```
/// use lengthwise_data::TokenSequence;
///
/// let sequence = TokenSequence::new([256, 104, 105, 256].into());
/// assert_eq!(sequence.inputs(), [256, 104, 105]);
/// assert_eq!(sequence.targets(), [104, 105, 256]);
/// assert_eq!(sequence.seq_len().0, 3);
/// assert_eq!(sequence.num_labels(), 3);
///
/// let answer = TokenSequence::masked([256, 104, 105, 256].into(), [false, true, true].into());
/// assert_eq!(answer.num_labels(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSequence {
    ids: Arc<[u32]>,
    /// For each target; `None` where all are labels.
    is_label: Option<Arc<[bool]>>,
}

impl TokenSequence {
    /// The sequence of `ids.len() - 1` tokens with these ids.
    ///
    /// # Panics
    ///
    /// With fewer than two ids there is nothing to predict.
    pub fn new(ids: Arc<[u32]>) -> Self {
        assert!(ids.len() >= 2, "{} ids make no sequence", ids.len());
        TokenSequence {
            ids,
            is_label: None,
        }
    }

    /// The same with the loss of some targets only.
    ///
    /// # Panics
    ///
    /// As [`TokenSequence::new`], or if `is_label` does not say it of each target.
    pub fn masked(ids: Arc<[u32]>, is_label: Arc<[bool]>) -> Self {
        assert_eq!(
            is_label.len() + 1,
            ids.len(),
            "every id but the first is a label or not"
        );
        TokenSequence {
            is_label: Some(is_label),
            ..Self::new(ids)
        }
    }

    /// Ids that the model reads, one a token.
    pub fn inputs(&self) -> &[u32] {
        &self.ids[..self.ids.len() - 1]
    }

    /// Ids that it must predict, one after each input.
    pub fn targets(&self) -> &[u32] {
        &self.ids[1..]
    }

    /// Whether each target is trained on; `None` if all are.
    pub fn is_label(&self) -> Option<&[bool]> {
        self.is_label.as_deref()
    }

    /// How many targets are trained on; it may be none.
    pub fn num_labels(&self) -> u64 {
        let labels = self.is_label();
        labels.map_or(self.seq_len().0, |is_label| {
            is_label.iter().filter(|&&is_label| is_label).count() as u64
        })
    }

    /// How many tokens are read, and as many predicted; at least 1.
    pub fn seq_len(&self) -> Tokens {
        Tokens(self.ids.len() as u64 - 1)
    }
}

/// The sequences of one optimiser step, and where in the corpus they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// At least one.
    pub sequences: Vec<TokenSequence>,
    /// Their origin in the corpus.
    pub origin: BatchOrigin,
    /// How far the corpus has been drawn with this batch: where a run that has trained on it goes on. `None` of a batch that
    /// comes from no corpus.
    pub end: Option<Position>,
}

/// Origin of the sequences of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOrigin {
    /// How often the corpus had been begun when the batch was full, counted from 1; 0 for no corpus.
    pub epoch: u64,
    /// Sequences that are pieces of a longer document.
    pub num_pieces: u64,
    /// Sequences that are the beginning of a longer document, whose rest is never trained on.
    pub num_truncated: u64,
    /// The tokens of those rests.
    pub num_cut_tokens: u64,
}

impl TokenBatch {
    /// A batch of sequences that come from no corpus.
    ///
    /// # Panics
    ///
    /// Without any sequence there is no batch.
    pub fn new(sequences: Vec<TokenSequence>) -> Self {
        Self::with_origin(sequences, BatchOrigin::default())
    }

    pub(crate) fn with_origin(sequences: Vec<TokenSequence>, origin: BatchOrigin) -> Self {
        assert!(!sequences.is_empty(), "a batch needs at least one sequence");
        TokenBatch {
            sequences,
            origin,
            end: None,
        }
    }

    /// How many targets of all sequences are trained on: the divisor of losses.
    pub fn num_labels(&self) -> u64 {
        self.sequences.iter().map(TokenSequence::num_labels).sum()
    }

    /// The lengths, as planners see them.
    ///
    /// # Panics
    ///
    /// If all sequences were taken out.
    pub fn global_batch(&self) -> GlobalBatch {
        let seq_lens = self.sequences.iter().map(TokenSequence::seq_len).collect();
        GlobalBatch::new(seq_lens)
            .expect("a batch in memory has sequences, and few enough to count")
    }
}
