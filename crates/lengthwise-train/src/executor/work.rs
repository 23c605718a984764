//! A rank's work in a micro-batch: its share of its group's packed sequences.

use lengthwise_core::{Activations, Group, Rank};
use lengthwise_tensor::AttentionLayout;

use crate::model::ModelConfig;
use crate::model::exchange::Shards;
use crate::model::layer::GroupTokens;
use crate::model::ring::Places;
use lengthwise_data::TokenBatch;

/// A rank's share of its group's packed sequences.
#[derive(Clone, Debug)]
pub struct RankWork {
    /// The id of each of this rank's tokens.
    pub ids: Vec<u32>,
    /// The labels of those of them that have one, in order.
    pub targets: Vec<u32>,
    /// Which of the tokens these are; `None` where it is all of them.
    pub labelled: Option<Vec<u32>>,
    /// Where they are, and the attention this rank computes.
    pub tokens: GroupTokens,
    /// The treatment of activations between forward and backward.
    pub activations: Activations,
}

impl RankWork {
    /// Packs the sequences of `group` one after the other, without padding, and cuts out the share of a group rank.
    pub fn new(config: &ModelConfig, group: &Group, group_rank: Rank, batch: &TokenBatch) -> Self {
        let sequences: Vec<_> = group
            .sequences
            .iter()
            .map(|&index| &batch.sequences[index.index()])
            .collect();
        let seq_lens = sequences.iter().map(|sequence| sequence.inputs().len());
        let num_places = group.strategy.ring_degree().get() as usize;
        let places = Places::new(seq_lens, num_places);
        let Seat { place, index } = Seat::of(group, group_rank);
        let num_ulysses = group.strategy.ulysses_degree().get() as usize;
        let shards = Shards::new(config, num_ulysses, places.num_tokens(place));
        let mine = shards.tokens(index);
        let heads = AttentionLayout::packed(
            [],
            shards.kv_head_of(index),
            shards.num_kv_heads(index),
            config.head_dim,
        );
        let attention = |window| {
            let heads = AttentionLayout {
                window,
                ..heads.clone()
            };
            let sources = 0..num_places;
            sources
                .map(|source| places.attention(place, source, &heads))
                .collect()
        };
        let window = (0..config.layers).find_map(|layer| config.window(layer));
        let mut work = RankWork {
            ids: Vec::with_capacity(mine.len()),
            targets: Vec::with_capacity(mine.len()),
            labelled: None,
            tokens: GroupTokens {
                positions: Vec::with_capacity(mine.len()),
                rotation: config.rope.rotation(config.head_dim),
                attention: attention(None),
                windowed: window.map(|window| attention(Some(window))),
                shards,
            },
            activations: group.strategy.activations(),
        };
        let mut labelled = Vec::with_capacity(mine.len());
        let mut row = 0;
        for (sequence, runs) in sequences.iter().zip(places.runs(place)) {
            let is_label = |place| sequence.is_label().is_none_or(|is_label| is_label[place]);
            for run in runs {
                // The part of the run in this rank's rows.
                let rows = row..row + run.len();
                row = rows.end;
                let within = |at: usize| run.start + at.clamp(rows.start, rows.end) - rows.start;
                let (start, end) = (within(mine.start), within(mine.end));
                let first_row = work.ids.len() as u32;
                work.ids.extend(&sequence.inputs()[start..end]);
                let tokens = (first_row..).zip(start..end);
                for (row, place) in tokens.filter(|&(_, place)| is_label(place)) {
                    labelled.push(row);
                    work.targets.push(sequence.targets()[place]);
                }
                work.tokens.positions.extend(start as u32..end as u32);
            }
        }
        work.labelled = (labelled.len() < work.ids.len()).then_some(labelled);
        work
    }
}

/// Where a rank is in its group. Neighbours exchange tokens for heads, so that rings lead from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    /// Its place in the ring.
    place: usize,
    /// Its number among the ranks of the place.
    index: usize,
}

impl Seat {
    fn of(group: &Group, group_rank: Rank) -> Self {
        let num_ulysses = group.strategy.ulysses_degree().get() as usize;
        Seat {
            place: group_rank.index() / num_ulysses,
            index: group_rank.index() % num_ulysses,
        }
    }
}

/// The ranks of a group that a rank exchanges tokens for heads with, itself included, and those of its ring, if there is one.
pub fn neighbours(group: &Group, group_rank: Rank) -> (Vec<Rank>, Option<Vec<Rank>>) {
    let num_ulysses = group.strategy.ulysses_degree().get() as usize;
    let Seat { place, index } = Seat::of(group, group_rank);
    let mut ranks = group.ranks.clone();
    ranks.sort_unstable();
    let at_place = ranks[place * num_ulysses..(place + 1) * num_ulysses].to_vec();
    let ring: Vec<Rank> = ranks.into_iter().skip(index).step_by(num_ulysses).collect();
    (at_place, (ring.len() > 1).then_some(ring))
}
