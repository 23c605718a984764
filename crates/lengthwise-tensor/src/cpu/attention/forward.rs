//! Attention's output and log-sum-exp.
//!
//! A block of keys and values is packed once per head; tiles of queries pass over it, key tile by key tile, with
//! their scores, running maxima, sums and outputs in scratch. Rows of one head lie far apart in the tensors, so
//! they are read and written once per block, not once per key tile. Between blocks the running maximum is kept
//! in the place of the log-sum-exp, the running sum in scratch, the running output in the result.

use std::ops::Range;

use pulp::Simd;

use super::super::exp::exp2;
use super::super::storage::Storage;
use super::super::tile_product::{
    Into, Left, SCORE_STRIDE, multiply_panel, pack, pack_strips, pack_transposed, panel_width,
    panels,
};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{Heads, WIDEST_PANEL, check, has_tall_strips, strip_rows};
use crate::{AttentionLayout, AttentionSpan, Tensor};

/// Keys of a block: what is packed at once.
const KEY_BLOCK: usize = 2304;
/// Keys of a tile: a multiple of every panel's width.
const KEY_TILE: usize = 192;
const _: () = assert!(KEY_TILE <= SCORE_STRIDE);
/// Queries of a tile: a multiple of every strip's rows.
const QUERY_TILE: usize = 96;

pub(in super::super) fn forward(
    backend: &CpuBackend,
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    layout: &AttentionLayout,
) -> Result<(CpuTensor, CpuTensor)> {
    const OPERATION: &str = "attention";
    check(q, k, v, layout);
    let (tokens, heads) = (layout.num_queries, layout.num_heads());
    let mut out = backend.storage(OPERATION, tokens, q.cols())?;
    let mut lse = backend.storage(OPERATION, tokens, heads)?;
    if !layout.has_all_queries() {
        out.fill(0.0);
        lse.fill(f32::NEG_INFINITY);
    }
    let queries = layout.spans.iter().map(|span| span.queries.len());
    let keys = layout.spans.iter().map(|span| span.keys.len());
    let (queries, keys) = (queries.max().unwrap_or(0), keys.max().unwrap_or(0));
    let dim = layout.head_dim.next_multiple_of(WIDEST_PANEL);
    let keys = keys.min(KEY_BLOCK).next_multiple_of(WIDEST_PANEL);
    let rows = queries
        .min(QUERY_TILE)
        .next_multiple_of(strip_rows(backend.vectors));
    let mut scratch = Scratch {
        sums: backend.storage(OPERATION, queries, heads)?,
        key_panels: backend.storage(OPERATION, keys, dim)?,
        value_panels: backend.storage(OPERATION, keys, dim)?,
        queries: backend.storage(OPERATION, rows, dim)?,
        outputs: backend.storage(OPERATION, rows, dim)?,
        scores: backend.storage(OPERATION, rows, SCORE_STRIDE)?,
    };
    run(
        backend.vectors,
        Forward {
            q: q.elements(),
            k: k.elements(),
            v: v.elements(),
            out: &mut out,
            lse: &mut lse,
            scratch: &mut scratch,
            heads: Heads::of(layout),
            window: layout.window.unwrap_or(usize::MAX),
        },
        layout,
    );
    Ok((
        CpuTensor::new(out, tokens, q.cols()),
        CpuTensor::new(lse, tokens, heads),
    ))
}

struct Scratch {
    /// The running sum of each query and head of a span.
    sums: Storage,
    key_panels: Storage,
    /// Panels of each key tile in turn.
    value_panels: Storage,
    /// Strips of a tile.
    queries: Storage,
    outputs: Storage,
    scores: Storage,
}

struct Forward<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a mut [f32],
    /// The running maximum in units of `log2`, until a row is done.
    lse: &'a mut [f32],
    scratch: &'a mut Scratch,
    heads: Heads,
    /// The most keys that a query sees.
    window: usize,
}

vectorised! {
    fn run<'a>(simd: S, forward: Forward<'a>, layout: &'a AttentionLayout) {
        if has_tall_strips::<S>() {
            forward.run::<S, 12>(simd, layout);
        } else {
            forward.run::<S, 6>(simd, layout);
        }
    }
}

/// A tile of keys inside a block.
#[derive(Clone, Copy)]
struct KeyTile {
    start: usize,
    len: usize,
    /// How many tokens lie between the tile's first key and the first query: negative where it comes later.
    before_queries: isize,
    /// The most keys that a query sees, its own included.
    window: usize,
    /// Nothing was attended to before.
    is_first: bool,
}

impl KeyTile {
    /// The keys before this one are those that the query of a row sees, or has left behind its window.
    #[inline(always)]
    fn seen_by(&self, row: usize) -> usize {
        let seen = self.before_queries + row as isize + 1;
        self.len.min(seen.max(0) as usize)
    }

    /// How many of the first keys the query of a row has left behind its window.
    #[inline(always)]
    fn left_by(&self, row: usize) -> usize {
        let seen = self.before_queries + row as isize + 1;
        (seen.max(0) as usize)
            .saturating_sub(self.window)
            .min(self.len)
    }

    /// The first row of the first strip that sees key `col`.
    #[inline(always)]
    fn first_to_see<const ROWS: usize>(&self, col: usize) -> usize {
        (col as isize - self.before_queries).max(0) as usize / ROWS * ROWS
    }
}

/// A block of keys of a span.
#[derive(Clone, Copy)]
struct Block<'a> {
    span: &'a AttentionSpan,
    /// Counted from the span's first key.
    start: usize,
    len: usize,
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S, layout: &AttentionLayout) {
        let Heads { dim, kv_cols, .. } = self.heads;
        for span in &layout.spans {
            let num_queries = span.queries.len();
            for start in (0..span.keys.len()).step_by(KEY_BLOCK) {
                let len = KEY_BLOCK.min(span.keys.len() - start);
                let block = Block { span, start, len };
                // Earlier queries see none of the block, and later ones have left all of it behind.
                let first = start.saturating_sub(span.lead) / QUERY_TILE * QUERY_TILE;
                let end = (start + len - 1).saturating_add(self.window);
                let end = num_queries.min(end.saturating_sub(span.lead));
                for kv_head in 0..layout.num_kv_heads {
                    let at = (span.keys.start + start) * kv_cols + kv_head * dim;
                    let mut packed = false;
                    for (head, _) in layout
                        .kv_head_of
                        .iter()
                        .enumerate()
                        .filter(|(_, of)| **of == kv_head)
                    {
                        if !packed {
                            self.pack::<S>(at, len);
                            packed = true;
                        }
                        for query in (first..end).step_by(QUERY_TILE) {
                            simd.vectorize(TileOperation::<ROWS> {
                                forward: &mut self,
                                block,
                                head,
                                query,
                            });
                        }
                    }
                }
            }
        }
    }

    /// Packs `len` keys and values from element `at` on.
    #[inline(always)]
    fn pack<S: Simd>(&mut self, at: usize, len: usize) {
        let Heads { dim, kv_cols, .. } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let (k, v) = (&self.k[at..], &self.v[at..]);
        pack_transposed::<S>(&mut self.scratch.key_panels, k, len, dim, kv_cols);
        for start in (0..len).step_by(KEY_TILE) {
            let to = &mut self.scratch.value_panels[start * padded..];
            let (v, keys) = (&v[start * kv_cols..], KEY_TILE.min(len - start));
            pack::<S>(to, v, keys, dim, kv_cols, padded, 1.0);
        }
    }

    /// A tile of one head's queries, from the span's query `first` on, attends to a block.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        block: Block<'_>,
        head: usize,
        first: usize,
    ) {
        let Heads {
            dim, q_cols, heads, ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let AttentionSpan {
            queries,
            keys,
            lead,
        } = block.span;
        let (rows, window) = (QUERY_TILE.min(queries.len() - first), self.window);
        // The first key that any query of the tile sees, and the first block that any attends to.
        let first_key = (first + lead + 1).saturating_sub(window);
        let is_first = block.start <= first_key;
        let scratch = &mut *self.scratch;
        let from = &self.q[(queries.start + first) * q_cols + head * dim..];
        pack_strips::<ROWS>(&mut scratch.queries, from, rows, dim, q_cols);
        let mut running = [Running::default(); QUERY_TILE];
        if !is_first {
            for (row, running) in running[..rows].iter_mut().enumerate() {
                let token = queries.start + first + row;
                let from = token * q_cols + head * dim..token * q_cols + head * dim + dim;
                running.max = self.lse[token * heads + head];
                running.sum = scratch.sums[(first + row) * heads + head];
                scratch.outputs[row * padded..][..dim].copy_from_slice(&self.out[from]);
            }
        }
        let seen = block.len.min(first + rows + lead - block.start);
        let left = first_key.saturating_sub(block.start) / KEY_TILE * KEY_TILE;
        for start in (left..seen).step_by(KEY_TILE) {
            let keys = KeyTile {
                start,
                len: KEY_TILE.min(block.len - start),
                before_queries: (first + lead) as isize - (block.start + start) as isize,
                window,
                is_first: is_first && start == left,
            };
            self.attend::<S, ROWS>(simd, keys, &mut running[..rows]);
        }
        for (row, running) in running[..rows].iter().enumerate() {
            let token = queries.start + first + row;
            let (mut max, mut factor) = (running.max, 1.0);
            let last_key = (first + row + lead).min(keys.len() - 1);
            if (block.start..block.start + block.len).contains(&last_key) {
                // A query that has left all keys behind has summed nothing.
                if running.sum > 0.0 {
                    max = max * std::f32::consts::LN_2 + running.sum.ln();
                    factor = 1.0 / running.sum;
                }
            } else {
                self.scratch.sums[(first + row) * heads + head] = running.sum;
            }
            self.lse[token * heads + head] = max;
            let to = token * q_cols + head * dim;
            let output = &self.scratch.outputs[row * padded..][..dim];
            for (to, x) in self.out[to..to + dim].iter_mut().zip(output) {
                *to = *x * factor;
            }
        }
    }

    /// The tile of queries in scratch attends to one tile of keys.
    #[inline(always)]
    fn attend<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        keys: KeyTile,
        running: &mut [Running],
    ) {
        let Heads {
            dim, log2_scale, ..
        } = self.heads;
        let scratch = &mut *self.scratch;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let width = panel_width::<S>();
        let rows = running.len();
        let score_cols = keys.seen_by(rows - 1).next_multiple_of(width);
        for col in (0..score_cols).step_by(width) {
            let panel = (
                &scratch.key_panels[(keys.start + col) * dim..][..width * dim],
                width,
            );
            for row in (keys.first_to_see::<ROWS>(col)..rows).step_by(ROWS) {
                let a = Left::Strip(&scratch.queries[row * dim..]);
                let c = (
                    &mut scratch.scores[row * SCORE_STRIDE + col..],
                    SCORE_STRIDE,
                );
                multiply_panel::<S, ROWS>(simd, dim, a, panel, c, Into::Replace);
            }
        }
        for (row, running) in running.iter_mut().enumerate() {
            let scores = &mut scratch.scores[row * SCORE_STRIDE..][..score_cols];
            let seen = keys.left_by(row)..keys.seen_by(row);
            let rescale = softmax(simd, scores, seen, log2_scale, running);
            if !keys.is_first && rescale != 1.0 {
                for x in &mut scratch.outputs[row * padded..][..padded] {
                    *x *= rescale;
                }
            }
        }
        let into = if keys.is_first {
            Into::Replace
        } else {
            Into::Add
        };
        let values = &scratch.value_panels[keys.start * padded..];
        for (col, panel_cols) in panels::<S>(padded) {
            let panel = &values[col * keys.len..][..panel_cols * keys.len];
            for row in (0..rows).step_by(ROWS) {
                let seen = keys.seen_by((row + ROWS).min(rows) - 1);
                let a = Left::ScoreRows(&scratch.scores[row * SCORE_STRIDE..]);
                let c = (&mut scratch.outputs[row * padded + col..], padded);
                multiply_panel::<S, ROWS>(simd, seen, a, (panel, panel_cols), c, into);
            }
        }
    }
}

/// A row's maximum of the scores so far, in units of `log2`, and its sum of `2^(score - maximum)`.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        }
    }
}

struct TileOperation<'a, 'b, 'c, const ROWS: usize> {
    forward: &'a mut Forward<'b>,
    block: Block<'c>,
    head: usize,
    query: usize,
}

impl<const ROWS: usize> pulp::WithSimd for TileOperation<'_, '_, '_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.forward
            .tile::<S, ROWS>(simd, self.block, self.head, self.query);
    }
}

/// Turns the `seen` scores into `2^(scale * score - maximum)` and the others into 0, with the maximum of all
/// scores of the row so far. Returns the factor by which what was summed with the old maximum shrinks.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    scores: &mut [f32],
    seen: Range<usize>,
    scale: f32,
    running: &mut Running,
) -> f32 {
    let (scores, unseen) = scores.split_at_mut(seen.end.next_multiple_of(panel_width::<S>()));
    unseen.fill(0.0);
    if seen.is_empty() {
        scores.fill(0.0);
        return 1.0;
    }
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    let (vectors, _) = S::as_mut_simd_f32s(scores);
    let (pairs, _) = vectors.as_chunks_mut::<2>();
    let mut maxima = [simd.splat_f32s(f32::NEG_INFINITY); 2];
    for pair in pairs.iter() {
        maxima[0] = simd.max_f32s(maxima[0], pair[0]);
        maxima[1] = simd.max_f32s(maxima[1], pair[1]);
    }
    let max = simd.reduce_max_f32s(simd.max_f32s(maxima[0], maxima[1]));
    let max = running.max.max(max * scale);
    let (scale, minus_max) = (simd.splat_f32s(scale), simd.splat_f32s(-max));
    let mut sums = [simd.splat_f32s(0.0); 2];
    for pair in pairs {
        for (x, sum) in pair.iter_mut().zip(&mut sums) {
            *x = exp2(simd, simd.mul_add_f32s(*x, scale, minus_max));
            *sum = simd.add_f32s(*sum, *x);
        }
    }
    let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let rescale = if max == running.max {
        1.0
    } else {
        (running.max - max).exp2()
    };
    running.sum = running.sum.mul_add(rescale, sum);
    running.max = max;
    rescale
}
