//! Memory of attention's backward beside its results.

use super::super::super::storage::Storage;
use super::super::super::tile_product::SCORE_STRIDE;
use super::super::super::{CpuBackend, Result};
use super::super::{WIDEST_PANEL, strip_rows};
use super::{KEY_TILE, OPERATION, QUERY_BLOCK, QUERY_TILE};
use crate::AttentionLayout;

/// Buffers for a block of queries and a tile of keys; panels are packed for `multiply_panel`.
pub(super) struct Scratch {
    /// Of the block of queries, these two in strips. The panels are those of each tile of queries in turn; those of the queries hold
    /// them times the scale of the scores.
    pub(super) queries: Storage,
    pub(super) d_outs: Storage,
    pub(super) query_panels: Storage,
    pub(super) d_out_panels: Storage,
    pub(super) d_queries: Storage,
    pub(super) log2_sums: Storage,
    /// `rowsum(dO * O)`.
    pub(super) deltas: Storage,
    /// Of the tile of keys. The panels hold the keys times the scale of the scores.
    pub(super) transposed_key_panels: Storage,
    pub(super) transposed_value_panels: Storage,
    pub(super) key_panels: Storage,
    pub(super) d_keys: Storage,
    pub(super) d_values: Storage,
    /// Of a pair of tiles.
    pub(super) probabilities: Storage,
    pub(super) d_scores: Storage,
}

/// The most elements that [`Scratch`] holds, which is more than the forward does: blocks and tiles at their full size,
/// and a strip and a line of cache to spare for each.
pub(in super::super::super) fn scratch_elements(head_dim: usize) -> usize {
    const SPARE: usize = 32;
    let dim = head_dim.next_multiple_of(WIDEST_PANEL);
    let queries = QUERY_BLOCK + SPARE;
    let keys = KEY_TILE + SPARE;
    let pair = (QUERY_TILE + SPARE) * SCORE_STRIDE;
    (5 * queries + 5 * keys) * dim + 2 * queries + 2 * pair
}

impl Scratch {
    pub(super) fn new(backend: &CpuBackend, layout: &AttentionLayout) -> Result<Self> {
        let queries = layout.spans.iter().map(|span| span.queries.len());
        let keys = layout.spans.iter().map(|span| span.keys.len());
        let (queries, keys) = (queries.max().unwrap_or(0), keys.max().unwrap_or(0));
        let strip = strip_rows(backend.vectors);
        let dim = layout.head_dim.next_multiple_of(WIDEST_PANEL);
        let tile = queries.min(QUERY_TILE).next_multiple_of(strip);
        let queries = queries.min(QUERY_BLOCK).next_multiple_of(strip);
        // Whole strips over keys may pass the last panel.
        let keys = keys.min(KEY_TILE).next_multiple_of(WIDEST_PANEL);
        let key_strips = keys.next_multiple_of(strip);
        let storage = |rows, cols| backend.storage(OPERATION, rows, cols);
        Ok(Self {
            queries: storage(queries, dim)?,
            d_outs: storage(queries, dim)?,
            query_panels: storage(queries, dim)?,
            d_out_panels: storage(queries, dim)?,
            d_queries: storage(queries, dim)?,
            log2_sums: storage(queries, 1)?,
            deltas: storage(queries, 1)?,
            transposed_key_panels: storage(keys, dim)?,
            transposed_value_panels: storage(keys, dim)?,
            key_panels: storage(keys, dim)?,
            d_keys: storage(key_strips, dim)?,
            d_values: storage(key_strips, dim)?,
            probabilities: storage(tile, SCORE_STRIDE)?,
            d_scores: storage(tile, SCORE_STRIDE)?,
        })
    }
}
