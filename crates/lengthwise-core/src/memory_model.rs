//! What a plan's memory is checked against.

use crate::{Bytes, Device, GlobalBatch, Group, Strategy, Tokens};

/// Predicts the memory that sequences need on each device of their group.
pub trait MemoryModel {
    /// The bytes that a sequence of `seq_len` tokens adds on every device of a group with `strategy`.
    ///
    /// Additive over the sequences of a group, and not decreasing in `seq_len`.
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes;

    /// What `device` has left for sequences once parameters, gradients, optimiser state and
    /// fixed buffers are in place; zero where nothing is left.
    fn budget(&self, device: &Device) -> Bytes;

    /// The bytes that all sequences of `group` need on each of its devices.
    fn group_memory(&self, group: &Group, batch: &GlobalBatch) -> Bytes {
        let seq_lens = group
            .sequences
            .iter()
            .filter_map(|&sequence| batch.seq_len(sequence));
        seq_lens
            .map(|seq_len| self.sequence_memory(group.strategy, seq_len))
            .fold(Bytes(0), Bytes::saturating_add)
    }
}
