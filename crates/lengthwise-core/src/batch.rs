//! The sequences of one optimiser step.

use std::fmt;

use crate::limits::{BATCH_SEQUENCES, SEQ_LEN};
use crate::{CoreError, Tokens};

/// The position of a sequence in its global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceIndex(pub u32);

impl SequenceIndex {
    /// As an index into per-sequence lists.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SequenceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One document after tokenisation, as the planner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// Its position in the global batch.
    pub index: SequenceIndex,
    /// Its length, at least 1.
    pub seq_len: Tokens,
}

/// The lengths of all sequences of one optimiser step: at least one, each of at least one token, within the
/// [limits](crate::limits) of sequences and lengths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GlobalBatch {
    seq_lens: Vec<Tokens>,
}

impl GlobalBatch {
    /// A batch of sequences with these lengths, in this order.
    pub fn new(seq_lens: Vec<Tokens>) -> Result<Self, CoreError> {
        if seq_lens.is_empty() {
            return Err(CoreError::EmptyBatch);
        }
        if seq_lens.len() as u64 > BATCH_SEQUENCES.most {
            return Err(CoreError::BatchTooLarge {
                num_sequences: seq_lens.len(),
            });
        }
        if let Some(index) = seq_lens.iter().position(|seq_len| seq_len.0 == 0) {
            return Err(CoreError::EmptySequence { index });
        }
        if let Some(index) = seq_lens.iter().position(|seq_len| seq_len.0 > SEQ_LEN.most) {
            return Err(CoreError::SequenceTooLong {
                index,
                seq_len: seq_lens[index],
            });
        }
        Ok(GlobalBatch { seq_lens })
    }

    /// A batch from bare token counts.
    pub fn from_lens(seq_lens: impl IntoIterator<Item = u64>) -> Result<Self, CoreError> {
        Self::new(seq_lens.into_iter().map(Tokens).collect())
    }

    /// The sequences in order.
    pub fn sequences(&self) -> impl ExactSizeIterator<Item = Sequence> + '_ {
        self.seq_lens
            .iter()
            .enumerate()
            .map(|(index, &seq_len)| Sequence {
                index: SequenceIndex(index as u32),
                seq_len,
            })
    }

    /// The lengths in order.
    pub fn seq_lens(&self) -> &[Tokens] {
        &self.seq_lens
    }

    /// The length of one sequence; `None` beyond the batch.
    pub fn seq_len(&self, index: SequenceIndex) -> Option<Tokens> {
        self.seq_lens.get(index.index()).copied()
    }

    /// How many sequences there are; at least 1.
    pub fn num_sequences(&self) -> usize {
        self.seq_lens.len()
    }

    /// The tokens of all sequences together.
    pub fn num_tokens(&self) -> Tokens {
        self.seq_lens.iter().copied().sum()
    }

    /// The longest sequence; the first of them where several are.
    pub fn longest(&self) -> Sequence {
        let mut longest = Sequence {
            index: SequenceIndex(0),
            seq_len: self.seq_lens[0],
        };
        for sequence in self.sequences() {
            if sequence.seq_len > longest.seq_len {
                longest = sequence;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_needs_sequences_and_sequences_need_tokens() {
        assert_eq!(GlobalBatch::from_lens([]), Err(CoreError::EmptyBatch));
        assert_eq!(
            GlobalBatch::from_lens([3, 0]),
            Err(CoreError::EmptySequence { index: 1 })
        );
        assert_eq!(
            GlobalBatch::from_lens([1, u64::MAX]),
            Err(CoreError::SequenceTooLong {
                index: 1,
                seq_len: Tokens(u64::MAX)
            })
        );
    }

    #[test]
    fn the_longest_sequence_is_the_first_of_equals() {
        let batch = GlobalBatch::from_lens([3, 9, 9, 1]).unwrap();
        assert_eq!(batch.longest().index, SequenceIndex(1));
        assert_eq!(batch.num_tokens(), Tokens(22));
    }
}
