//! A group's work in a micro-batch.

use lengthwise_core::{Activations, Cluster, GlobalBatch, Group, GroupLoad, Rank, Tokens};
use lengthwise_cost::{GroupShape, TimeParts, TokenBytes};
use lengthwise_network::Path;

use super::ops::{self, Carried, Operations};
use crate::costs::StepCosts;

/// A group of a micro-batch with all that its ranks need to know.
#[derive(Clone, Debug)]
pub struct GroupWork {
    /// On devices of nominal speed, over the whole micro-batch.
    pub parts: TimeParts,
    /// The bytes of each of its devices, over all layers.
    own: TokenBytes,
    pub load: GroupLoad,
    /// Whether its ranks exchange tokens for heads.
    exchanges: bool,
    /// The list of its ranks' operations.
    pub operations: usize,
    pub channel: u32,
    /// The ways that its calls go; `None` where they take their measured time.
    pub paths: Option<GroupPaths>,
    /// The channels of its ranks' copies, where they make some.
    pub copies: Option<Copies>,
}

/// The ways that the calls of a group go.
#[derive(Clone, Copy, Debug)]
pub struct GroupPaths {
    /// Of exchanges for heads.
    pub heads: Path,
    /// From each place of its ring to the next.
    pub hop: Path,
}

/// Where the copies of a group's ranks are: one channel a rank, in their order.
#[derive(Clone, Debug)]
pub struct Copies {
    pub first_channel: u32,
    pub ranks: Vec<Rank>,
}

impl Copies {
    /// The channel of a rank.
    pub fn channel(&self, rank: u32) -> Option<u32> {
        let place = self.ranks.iter().position(|of| of.0 == rank)?;
        Some(self.first_channel + place as u32)
    }
}

impl GroupWork {
    /// The work of a planned group; its operations, its channels and its ways are to be filled in.
    pub fn new(
        group: &Group,
        batch: &GlobalBatch,
        cluster: &Cluster,
        costs: &StepCosts<'_>,
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
            parts.hops += of_sequence.hops;
            parts.copies += of_sequence.copies;
            load.num_tokens += seq_len;
        }
        let own_tokens = load.num_tokens.as_f64() / f64::from(load.degree.get());
        let recomputes = group.strategy.activations().recomputes();
        let num_passes = ops::passes(recomputes).len() as f64;
        let of_token = costs.token_bytes(group.strategy, num_passes);
        GroupWork {
            parts,
            own: TokenBytes {
                heads: of_token.heads * own_tokens,
                key_values: of_token.key_values * own_tokens,
                layer_inputs: of_token.layer_inputs * own_tokens,
            },
            load,
            exchanges: group.strategy.ulysses_degree().get() > 1,
            operations: 0,
            channel: 0,
            paths: None,
            copies: None,
        }
    }

    /// The bytes that each of its devices passes on in a call.
    pub fn bytes_of_call(&self, carried: Carried, num_layers: u32) -> f64 {
        let of_layer = |bytes: f64| bytes / f64::from(num_layers);
        match carried {
            Carried::Heads(part) => of_layer(self.own.heads * part),
            Carried::Block { .. } | Carried::Gradients => of_layer(self.own.key_values),
        }
    }

    /// The bytes that each of its devices copies at a time.
    pub fn bytes_of_copy(&self, num_layers: u32) -> f64 {
        self.own.layer_inputs / f64::from(num_layers)
    }

    /// Seconds of a call by the measured costs of exchanges, beyond the computing beside it.
    ///
    /// A block is waited for as long as its part of what hops leave unhidden; what its ring takes otherwise counts there too
    /// where nothing else is exchanged. Of gradients no more is known.
    pub fn measured_s(&self, carried: Carried, of: &Operations) -> f64 {
        let TimeParts {
            attention,
            exchange,
            hops,
            copies,
            ..
        } = self.parts;
        let heads = (exchange.get() - hops.get() - copies.get()).max(0.0);
        match carried {
            Carried::Heads(part) => heads * part / of.head_parts,
            Carried::Block {
                attention: share,
                weight,
            } => {
                let beside = if self.exchanges { 0.0 } else { heads };
                let exposed = (hops.get() + beside) * weight / of.block_weights;
                attention.get() * share + exposed
            }
            Carried::Gradients => 0.0,
        }
    }

    /// Seconds that a copy is waited for, by the measured costs of copies beyond the computing that hides them.
    pub fn measured_copy_s(&self, of: &Operations) -> f64 {
        self.parts.copies.get() / f64::from(of.num_copies.max(1))
    }
}

/// The role of a group's ranks, which decides their operations.
pub fn role(group: &Group) -> ops::Role {
    let strategy = group.strategy;
    ops::Role::Working {
        exchanges: strategy.ulysses_degree().get() > 1,
        places: strategy.ring_degree().get(),
        activations: strategy.activations(),
    }
}

/// Whether its ranks copy layer inputs.
pub fn copies(group: &Group) -> bool {
    group.strategy.activations() == Activations::Host
}
