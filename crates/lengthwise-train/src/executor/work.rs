//! A rank's work in a micro-batch: its share of its group's packed sequences.

use lengthwise_core::{Group, Rank};
use lengthwise_tensor::AttentionLayout;

use crate::model::ModelConfig;
use crate::model::exchange::Shards;
use crate::model::layer::GroupTokens;
use lengthwise_data::TokenBatch;

/// A rank's share of its group's packed sequences.
#[derive(Clone, Debug)]
pub struct RankWork {
    /// The id of each of this rank's tokens.
    pub ids: Vec<u32>,
    /// What each of them must predict.
    pub targets: Vec<u32>,
    /// Where they are, and the attention this rank computes.
    pub tokens: GroupTokens,
    /// Whether layers are recomputed in the backward.
    pub recompute: bool,
}

impl RankWork {
    /// Packs the sequences of `group` one after the other, without padding, and cuts out the share of a group rank.
    pub fn new(config: &ModelConfig, group: &Group, group_rank: Rank, batch: &TokenBatch) -> Self {
        let sequences: Vec<_> = group
            .sequences
            .iter()
            .map(|&index| &batch.sequences[index.index()])
            .collect();
        let mut packed = Vec::with_capacity(sequences.len());
        let mut end = 0;
        for sequence in &sequences {
            let start = end;
            end += sequence.inputs().len();
            packed.push(start..end);
        }
        let shards = Shards::new(config, group.ranks.len(), end);
        let mine = shards.tokens(group_rank.index());
        let attention = AttentionLayout {
            sequences: packed.clone(),
            kv_head_of: shards.kv_head_of(group_rank.index()),
            num_kv_heads: shards.num_kv_heads(group_rank.index()),
            head_dim: config.head_dim,
            window: None,
        };
        let window = (0..config.layers).find_map(|layer| config.window(layer));
        let windowed = window.map(|window| AttentionLayout {
            window: Some(window),
            ..attention.clone()
        });
        let mut work = RankWork {
            ids: Vec::with_capacity(mine.len()),
            targets: Vec::with_capacity(mine.len()),
            tokens: GroupTokens {
                positions: Vec::with_capacity(mine.len()),
                rotation: config.rope.rotation(config.head_dim),
                attention,
                windowed,
                shards,
            },
            recompute: group.strategy.activations().recomputes(),
        };
        for (sequence, rows) in sequences.iter().zip(packed) {
            let start = mine.start.clamp(rows.start, rows.end) - rows.start;
            let end = mine.end.clamp(rows.start, rows.end) - rows.start;
            work.ids.extend(&sequence.inputs()[start..end]);
            work.targets.extend(&sequence.targets()[start..end]);
            work.tokens.positions.extend(start as u32..end as u32);
        }
        work
    }
}
