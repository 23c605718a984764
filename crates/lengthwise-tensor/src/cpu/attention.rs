//! Variable-length causal attention, tiled over queries and keys (Dao, 2023).

mod backward;
mod forward;

use std::ops::Range;

use super::CpuTensor;
use crate::AttentionLayout;

pub(super) use backward::backward;
pub(super) use forward::forward;

/// Queries of a tile.
const QUERY_TILE: usize = 128;
/// Keys of a tile.
const KEY_TILE: usize = 128;

/// `1 / sqrt(head_dim)`.
fn score_scale(layout: &AttentionLayout) -> f32 {
    (layout.head_dim as f32).sqrt().recip()
}

/// Panics unless queries, keys and values fit the layout.
fn check(q: &CpuTensor, k: &CpuTensor, v: &CpuTensor, layout: &AttentionLayout) {
    let tokens = layout.num_tokens();
    let kv_cols = layout.num_kv_heads * layout.head_dim;
    q.expect_shape("queries", tokens, layout.num_heads() * layout.head_dim);
    k.expect_shape("keys", tokens, kv_cols);
    v.expect_shape("values", tokens, kv_cols);
    let mut end = 0;
    for sequence in &layout.sequences {
        assert!(
            sequence.start == end && sequence.end >= end,
            "sequence at rows {sequence:?} does not follow row {end}"
        );
        end = sequence.end;
    }
    for &kv_head in &layout.kv_head_of {
        assert!(
            kv_head < layout.num_kv_heads,
            "key/value head {kv_head} of {}",
            layout.num_kv_heads
        );
    }
}

/// The tiles of `range`, in order.
fn tiles(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(size)
        .map(move |start| start..(start + size).min(end))
}
