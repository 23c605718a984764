//! The memory model that plans are checked against.

use crate::{Bytes, Device, GlobalBatch, Group, Strategy, Tokens};

/// Predicts the memory that sequences need on each device of their group, and on its host.
pub trait MemoryModel {
    /// The bytes that a sequence of `seq_len` tokens adds on every device of a group with `strategy`.
    ///
    /// Additive over the sequences of a group, and not decreasing in `seq_len`.
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes;

    /// The memory that `device` has left for sequences once parameters, gradients, optimiser state and
    /// fixed buffers are in place; zero where nothing is left.
    fn budget(&self, device: &Device) -> Bytes;

    /// The bytes that a sequence of `seq_len` tokens adds in host memory for every device of a group with `strategy`:
    /// none, unless activations are moved there.
    ///
    /// Additive over the sequences of a group, and not decreasing in `seq_len`.
    fn host_memory(&self, _strategy: Strategy, _seq_len: Tokens) -> Bytes {
        Bytes(0)
    }

    /// The memory of `device`'s host that sequences may take, which the devices of a node share; without limit, where nothing is
    /// known.
    fn host_budget(&self, _device: &Device) -> Bytes {
        Bytes(u64::MAX)
    }

    /// Whether a group of devices like this one has memory for a sequence, there and on their hosts.
    fn fits(&self, device: &Device, strategy: Strategy, seq_len: Tokens) -> bool {
        self.sequence_memory(strategy, seq_len) <= self.budget(device)
            && self.host_memory(strategy, seq_len) <= self.host_budget(device)
    }

    /// The bytes that all sequences of `group` need on each of its devices.
    fn group_memory(&self, group: &Group, batch: &GlobalBatch) -> Bytes {
        sum(group, batch, |seq_len| {
            self.sequence_memory(group.strategy, seq_len)
        })
    }

    /// The bytes that all sequences of `group` need in host memory for each of its devices.
    fn group_host_memory(&self, group: &Group, batch: &GlobalBatch) -> Bytes {
        sum(group, batch, |seq_len| {
            self.host_memory(group.strategy, seq_len)
        })
    }
}

fn sum(group: &Group, batch: &GlobalBatch, bytes: impl Fn(Tokens) -> Bytes) -> Bytes {
    let sequences = group.sequences.iter();
    let seq_lens = sequences.filter_map(|&sequence| batch.seq_len(sequence));
    seq_lens.map(bytes).fold(Bytes(0), Bytes::saturating_add)
}
