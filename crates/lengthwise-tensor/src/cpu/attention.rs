//! Variable-length causal attention, tiled over queries and keys (Dao, 2023).

mod backward;
mod forward;
mod merge;

use super::CpuTensor;
use super::vectorise::vectorised;
use crate::{AttentionLayout, AttentionSpan};

pub(super) use backward::{backward, scratch_elements};
pub(super) use forward::forward;
pub(super) use merge::merge;

/// The columns of a panel with the widest vectors, AVX-512: two of 16.
const WIDEST_PANEL: usize = 32;

/// Whether the register block of a product has 12 rows of two vectors, for which it takes 32 registers, or 6.
#[inline(always)]
fn has_tall_strips<S: pulp::Simd>() -> bool {
    // The emulation does not have the registers, but takes the path of what it emulates.
    S::REGISTER_COUNT >= 32 || (cfg!(test) && S::F32_LANES == 16)
}

vectorised! {
    /// How many rows the register block of a product has.
    fn strip_rows<'a>(_simd: S,) -> usize {
        if has_tall_strips::<S>() { 12 } else { 6 }
    }
}

/// How the heads lie in the tensors, and the scale of their scores.
#[derive(Clone, Copy)]
struct Heads {
    heads: usize,
    dim: usize,
    q_cols: usize,
    kv_cols: usize,
    /// `1 / sqrt(head_dim)`.
    scale: f32,
    /// The scale times `log2(e)`: `exp(scale s) = 2^(log2_scale s)`.
    log2_scale: f32,
}

impl Heads {
    fn of(layout: &AttentionLayout) -> Self {
        let (heads, dim) = (layout.num_heads(), layout.head_dim);
        let scale = (dim as f32).sqrt().recip();
        Self {
            heads,
            dim,
            q_cols: heads * dim,
            kv_cols: layout.num_kv_heads * dim,
            scale,
            log2_scale: scale * std::f32::consts::LOG2_E,
        }
    }
}

/// Panics unless queries, keys and values fit the layout.
fn check(q: &CpuTensor, k: &CpuTensor, v: &CpuTensor, layout: &AttentionLayout) {
    let kv_cols = layout.num_kv_heads * layout.head_dim;
    let q_cols = layout.num_heads() * layout.head_dim;
    q.expect_shape("queries", layout.num_queries, q_cols);
    k.expect_shape("keys", layout.num_keys, kv_cols);
    v.expect_shape("values", layout.num_keys, kv_cols);
    let mut end = 0;
    for AttentionSpan { queries, keys, .. } in &layout.spans {
        assert!(
            queries.start >= end && queries.end >= queries.start,
            "queries at rows {queries:?} do not follow row {end}"
        );
        assert!(
            keys.start <= keys.end && keys.end <= layout.num_keys,
            "keys at rows {keys:?} of {}",
            layout.num_keys
        );
        end = queries.end;
    }
    assert!(
        end <= layout.num_queries,
        "row {end} of {}",
        layout.num_queries
    );
    for &kv_head in &layout.kv_head_of {
        assert!(
            kv_head < layout.num_kv_heads,
            "key/value head {kv_head} of {}",
            layout.num_kv_heads
        );
    }
}
