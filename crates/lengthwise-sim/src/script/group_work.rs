//! A group's work in a micro-batch.

use lengthwise_core::{Cluster, GlobalBatch, Group, GroupLoad, Tokens};
use lengthwise_cost::{GroupShape, TimeParts};
use lengthwise_network::Path;

use super::ops;
use crate::costs::StepCosts;

/// A group of a micro-batch with all that its ranks need to know.
#[derive(Clone, Debug)]
pub struct GroupWork {
    /// On devices of nominal speed, over the whole micro-batch.
    pub parts: TimeParts,
    /// What each of its devices passes on over the whole micro-batch.
    exchanged: f64,
    pub load: GroupLoad,
    pub recompute: bool,
    pub channel: u32,
    /// The links it exchanges over; `None` where an exchange takes its measured time.
    pub path: Option<Path>,
}

impl GroupWork {
    /// What a planned group has to do.
    pub fn new(
        group: &Group,
        batch: &GlobalBatch,
        cluster: &Cluster,
        costs: &StepCosts<'_>,
        path: Option<Path>,
        channel: u32,
    ) -> Self {
        let shape = GroupShape::of(group, cluster);
        let mut parts = TimeParts::default();
        let mut load = GroupLoad {
            degree: group.degree(),
            num_sequences: group.sequences.len() as u32,
            num_tokens: Tokens(0),
        };
        for &sequence in &group.sequences {
            let Some(seq_len) = batch.seq_len(sequence) else {
                continue;
            };
            let of_sequence = costs.model.time_parts(shape, seq_len);
            parts.dense += of_sequence.dense;
            parts.attention += of_sequence.attention;
            parts.exchange += of_sequence.exchange;
            load.num_tokens += seq_len;
        }
        let own_tokens = load.num_tokens.as_f64() / f64::from(load.degree.get());
        GroupWork {
            parts,
            exchanged: costs.exchange_bytes_per_token * own_tokens,
            load,
            recompute: group.strategy.activations().recomputes(),
            channel,
            path,
        }
    }

    /// The part of its exchanges' time that its exchange number `call` takes.
    pub fn share(&self, call: u32, num_layers: u32) -> f64 {
        ops::exchange_share(call, num_layers, self.recompute)
    }

    /// What each of its devices passes on in that exchange.
    pub fn bytes_of_exchange(&self, call: u32, num_layers: u32) -> f64 {
        self.exchanged * self.share(call, num_layers)
    }
}
