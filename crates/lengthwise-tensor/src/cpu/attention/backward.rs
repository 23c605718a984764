//! Attention's gradients, with the probabilities recomputed per tile from the log-sum-exp.
//!
//! A block of queries and of the gradients of their outputs is packed once per head. Key tiles pass over it: each
//! is packed, its gradients grow in scratch while tiles of the block's queries pass, and are then added to the
//! result. The gradients of the queries grow in scratch over all key tiles of the block. Probabilities and
//! gradients of the scores of one pair of tiles are held.

mod scratch;

use std::ops::Range;

use pulp::Simd;

use super::super::exp::exp2;
use super::super::norm::dot;
use super::super::prefetch::{ROWS_AHEAD, prefetch};
use super::super::tile_product::{
    Into, Left, SCORE_STRIDE, multiply_panel, pack, pack_strips, pack_transposed, panel_width,
    panels,
};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{Heads, check, has_tall_strips};
use crate::{AttentionLayout, Tensor};
use scratch::Scratch;
pub(in super::super) use scratch::scratch_elements;

/// Queries of a block: what is packed at once, a multiple of both tiles.
const QUERY_BLOCK: usize = 1920;
/// Keys and queries of a tile: multiples of every strip's rows and of every panel's width.
const KEY_TILE: usize = 192;
const _: () = assert!(KEY_TILE <= SCORE_STRIDE);
const QUERY_TILE: usize = 96;

const OPERATION: &str = "attention_backward";

/// With `P = exp(S - lse)` and `D = rowsum(dO * O)`: `dV = P^T dO`, `dS = P * (dO V^T - D)`,
/// `dQ = scale dS K`, `dK = scale dS^T Q` (Dao, 2023, algorithm 2).
#[allow(
    clippy::too_many_arguments,
    reason = "the arguments are those of the trait's method"
)]
pub(in super::super) fn backward(
    backend: &CpuBackend,
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    out: &CpuTensor,
    lse: &CpuTensor,
    d_out: &CpuTensor,
    layout: &AttentionLayout,
) -> Result<(CpuTensor, CpuTensor, CpuTensor)> {
    check(q, k, v, layout);
    let (tokens, heads) = (layout.num_queries, layout.num_heads());
    let (q_cols, kv_cols) = (q.cols(), k.cols());
    out.expect_shape("attention's output", tokens, q_cols);
    d_out.expect_shape("the gradient of attention", tokens, q_cols);
    lse.expect_shape("log-sum-exp", tokens, heads);
    let mut d_q = backend.storage(OPERATION, tokens, q_cols)?;
    if !layout.has_all_queries() {
        d_q.fill(0.0);
    }
    let mut d_k = backend.zeroed(OPERATION, layout.num_keys, kv_cols)?;
    let mut d_v = backend.zeroed(OPERATION, layout.num_keys, kv_cols)?;
    let mut scratch = Scratch::new(backend, layout)?;
    run(
        backend.vectors,
        Backward {
            q: q.elements(),
            k: k.elements(),
            v: v.elements(),
            out: out.elements(),
            lse: lse.elements(),
            d_out: d_out.elements(),
            d_q: &mut d_q,
            d_k: &mut d_k,
            d_v: &mut d_v,
            scratch: &mut scratch,
            heads: Heads::of(layout),
            window: layout.window.unwrap_or(usize::MAX),
        },
        layout,
    );
    Ok((
        CpuTensor::new(d_q, tokens, q_cols),
        CpuTensor::new(d_k, layout.num_keys, kv_cols),
        CpuTensor::new(d_v, layout.num_keys, kv_cols),
    ))
}

struct Backward<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    d_out: &'a [f32],
    d_q: &'a mut [f32],
    d_k: &'a mut [f32],
    d_v: &'a mut [f32],
    scratch: &'a mut Scratch,
    heads: Heads,
    /// The most keys that a query sees.
    window: usize,
}

vectorised! {
    fn run<'a>(simd: S, backward: Backward<'a>, layout: &'a AttentionLayout) {
        if has_tall_strips::<S>() {
            backward.run::<S, 12>(simd, layout);
        } else {
            backward.run::<S, 6>(simd, layout);
        }
    }
}

/// Adjacent rows of the tensors, and the columns of one head.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    len: usize,
    head: usize,
}

impl Rows {
    /// The element at which the head of row `row` starts, in rows of `cols` elements.
    #[inline(always)]
    fn at(&self, row: usize, cols: usize, dim: usize) -> usize {
        (self.start + row) * cols + self.head * dim
    }
}

/// A tile of keys, and a tile of queries by its first row in the block.
#[derive(Clone, Copy)]
struct Pair {
    num_keys: usize,
    query: usize,
    num_queries: usize,
    /// How many tokens lie between the first key and the first query: negative where it comes later.
    before_queries: isize,
    /// The most keys that a query sees, its own included.
    window: usize,
}

impl Pair {
    /// The keys before this one are those that the query of a row sees, or has left behind its window.
    #[inline(always)]
    fn seen_by(&self, row: usize) -> usize {
        let seen = self.before_queries + row as isize + 1;
        self.num_keys.min(seen.max(0) as usize)
    }

    /// How many of the first keys the query of a row has left behind its window.
    #[inline(always)]
    fn left_by(&self, row: usize) -> usize {
        let seen = self.before_queries + row as isize + 1;
        (seen.max(0) as usize)
            .saturating_sub(self.window)
            .min(self.num_keys)
    }

    /// The first row that sees key `key`.
    #[inline(always)]
    fn first_to_see(&self, key: usize) -> usize {
        (key as isize - self.before_queries).max(0) as usize
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S, layout: &AttentionLayout) {
        for span in &layout.spans {
            for (head, &kv_head) in layout.kv_head_of.iter().enumerate() {
                for first in (0..span.queries.len()).step_by(QUERY_BLOCK) {
                    let len = QUERY_BLOCK.min(span.queries.len() - first);
                    let block = Rows {
                        start: span.queries.start + first,
                        len,
                        head,
                    };
                    self.enter_block::<S, ROWS>(simd, block);
                    // How far the block's first query is behind the first key.
                    let lead = span.lead + first;
                    // Earlier keys are left behind by all queries of the block, and later ones seen by none.
                    let first_key = (lead + 1).saturating_sub(self.window) / KEY_TILE * KEY_TILE;
                    let end = span.keys.len().min(lead + len);
                    for key in (first_key..end).step_by(KEY_TILE) {
                        let keys = Rows {
                            start: span.keys.start + key,
                            len: KEY_TILE.min(span.keys.len() - key),
                            head: kv_head,
                        };
                        simd.vectorize(KeyOperation::<ROWS> {
                            backward: &mut self,
                            block,
                            keys,
                            before_queries: lead as isize - key as isize,
                        });
                    }
                    self.leave_block::<S>(block);
                }
            }
        }
    }

    #[inline(always)]
    fn enter_block<S: Simd, const ROWS: usize>(&mut self, simd: S, block: Rows) {
        let Heads {
            dim,
            q_cols,
            heads,
            scale,
            ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let scratch = &mut *self.scratch;
        for row in 0..block.len {
            let at = block.at(row, q_cols, dim);
            for read in [self.out, self.d_out] {
                prefetch(read, at + ROWS_AHEAD * q_cols, dim);
            }
            let d_out = &self.d_out[at..at + dim];
            scratch.deltas[row] = dot(simd, &self.out[at..at + dim], d_out);
            let lse = self.lse[(block.start + row) * heads + block.head];
            scratch.log2_sums[row] = lse * std::f32::consts::LOG2_E;
        }
        let at = block.at(0, q_cols, dim);
        let (q, d_out) = (&self.q[at..], &self.d_out[at..]);
        pack_strips::<ROWS>(&mut scratch.queries, q, block.len, dim, q_cols);
        pack_strips::<ROWS>(&mut scratch.d_outs, d_out, block.len, dim, q_cols);
        for row in (0..block.len).step_by(QUERY_TILE) {
            let rows = QUERY_TILE.min(block.len - row);
            let (q, d_out) = (&q[row * q_cols..], &d_out[row * q_cols..]);
            let to = &mut scratch.query_panels[row * padded..];
            pack::<S>(to, q, rows, dim, q_cols, padded, scale);
            let to = &mut scratch.d_out_panels[row * padded..];
            pack::<S>(to, d_out, rows, dim, q_cols, padded, 1.0);
        }
        scratch.d_queries.fill(0.0);
    }

    #[inline(always)]
    fn leave_block<S: Simd>(&mut self, block: Rows) {
        let Heads { dim, q_cols, .. } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        for row in 0..block.len {
            let at = block.at(row, q_cols, dim);
            let from = &self.scratch.d_queries[row * padded..][..dim];
            self.d_q[at..at + dim].copy_from_slice(from);
        }
    }

    /// One tile of keys under the queries of a block, the first of which comes `before_queries` tokens behind the first key.
    #[inline(always)]
    fn keys<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        block: Rows,
        keys: Rows,
        before_queries: isize,
    ) {
        let Heads {
            dim,
            kv_cols,
            scale,
            ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let scratch = &mut *self.scratch;
        let at = keys.at(0, kv_cols, dim);
        let (k, v) = (&self.k[at..], &self.v[at..]);
        let (len, to) = (keys.len, &mut scratch.transposed_key_panels);
        pack_transposed::<S>(to, k, len, dim, kv_cols);
        let to = &mut scratch.transposed_value_panels;
        pack_transposed::<S>(to, v, len, dim, kv_cols);
        pack::<S>(&mut scratch.key_panels, k, len, dim, kv_cols, padded, scale);
        scratch.d_keys.fill(0.0);
        scratch.d_values.fill(0.0);
        // Tiles of queries that come before the keys are left out.
        let first = (-before_queries).max(0) as usize / QUERY_TILE * QUERY_TILE;
        // Those whose queries have all left the keys behind, too.
        let end = (keys.len - 1)
            .saturating_add(self.window)
            .saturating_add_signed(-before_queries);
        for query in (first..block.len.min(end)).step_by(QUERY_TILE) {
            let pair = Pair {
                num_keys: keys.len,
                query,
                num_queries: QUERY_TILE.min(block.len - query),
                before_queries: before_queries + query as isize,
                window: self.window,
            };
            self.pair::<S, ROWS>(simd, pair);
        }
        let results = [
            (&mut *self.d_k, &self.scratch.d_keys),
            (&mut *self.d_v, &self.scratch.d_values),
        ];
        for (to, from) in results {
            for row in 0..keys.len {
                let at = keys.at(row, kv_cols, dim);
                let part = &from[row * padded..][..dim];
                prefetch(to, at + ROWS_AHEAD * kv_cols, dim);
                for (sum, x) in to[at..at + dim].iter_mut().zip(part) {
                    *sum += *x;
                }
            }
        }
    }

    #[inline(always)]
    fn pair<S: Simd, const ROWS: usize>(&mut self, simd: S, pair: Pair) {
        let Heads {
            dim, log2_scale, ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let width = panel_width::<S>();
        let scratch = &mut *self.scratch;
        let Pair {
            num_keys,
            query,
            num_queries,
            ..
        } = pair;
        let seen = pair.seen_by(num_queries - 1);
        // The part of a row of scores that is used: whole strips over keys.
        let score_cols = seen.next_multiple_of(width).next_multiple_of(ROWS);
        let products = [
            (
                &scratch.queries,
                &scratch.transposed_key_panels,
                &mut scratch.probabilities,
            ),
            (
                &scratch.d_outs,
                &scratch.transposed_value_panels,
                &mut scratch.d_scores,
            ),
        ];
        for (a, b, c) in products {
            for col in (0..seen).step_by(width) {
                let panel = (&b[col * dim..][..width * dim], width);
                // Strips that see none of the panel's keys are left out.
                let skipped = pair.first_to_see(col) / ROWS * ROWS;
                for row in (skipped..num_queries).step_by(ROWS) {
                    let a = Left::Strip(&a[(query + row) * dim..]);
                    let c = (&mut c[row * SCORE_STRIDE + col..], SCORE_STRIDE);
                    multiply_panel::<S, ROWS>(simd, dim, a, panel, c, Into::Replace);
                }
            }
        }
        for row in 0..num_queries {
            differentiate_scores(
                simd,
                &mut scratch.probabilities[row * SCORE_STRIDE..][..score_cols],
                &mut scratch.d_scores[row * SCORE_STRIDE..][..score_cols],
                pair.left_by(row)..pair.seen_by(row),
                log2_scale,
                scratch.log2_sums[query + row],
                scratch.deltas[query + row],
            );
        }
        for (col, panel_cols) in panels::<S>(padded) {
            let panel = &scratch.key_panels[col * num_keys..][..panel_cols * num_keys];
            for row in (0..num_queries).step_by(ROWS) {
                let seen = pair.seen_by((row + ROWS).min(num_queries) - 1);
                let a = Left::ScoreRows(&scratch.d_scores[row * SCORE_STRIDE..]);
                let c = &mut scratch.d_queries[(query + row) * padded + col..];
                let panel = (panel, panel_cols);
                multiply_panel::<S, ROWS>(simd, seen, a, panel, (c, padded), Into::Add);
            }
        }
        let products = [
            (
                &scratch.probabilities,
                &scratch.d_out_panels,
                &mut scratch.d_values,
            ),
            (
                &scratch.d_scores,
                &scratch.query_panels,
                &mut scratch.d_keys,
            ),
        ];
        for (a, b, c) in products {
            let b = &b[query * padded..];
            for (col, panel_cols) in panels::<S>(padded) {
                for first in (0..seen).step_by(ROWS) {
                    // Queries before the strip's first key do not see it.
                    let skipped = pair.first_to_see(first);
                    let depth = num_queries - skipped;
                    let a = Left::ScoreCols(&a[skipped * SCORE_STRIDE + first..]);
                    let panel =
                        &b[col * num_queries + skipped * panel_cols..][..depth * panel_cols];
                    let c = (&mut c[first * padded + col..], padded);
                    multiply_panel::<S, ROWS>(simd, depth, a, (panel, panel_cols), c, Into::Add);
                }
            }
        }
    }
}

struct KeyOperation<'a, 'b, const ROWS: usize> {
    backward: &'a mut Backward<'b>,
    block: Rows,
    keys: Rows,
    before_queries: isize,
}

impl<const ROWS: usize> pulp::WithSimd for KeyOperation<'_, '_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.backward
            .keys::<S, ROWS>(simd, self.block, self.keys, self.before_queries);
    }
}

/// Scores become probabilities, and `dO V^T` in `d_s` the gradient of the scaled scores; 0 but for the `seen`.
#[inline(always)]
fn differentiate_scores<S: Simd>(
    simd: S,
    p: &mut [f32],
    d_s: &mut [f32],
    seen: Range<usize>,
    scale: f32,
    log2_sum: f32,
    delta: f32,
) {
    let vectors = seen.end.next_multiple_of(S::F32_LANES);
    let (p_vectors, _) = S::as_mut_simd_f32s(&mut p[..vectors]);
    let (d_s_vectors, _) = S::as_mut_simd_f32s(&mut d_s[..vectors]);
    let (scale, log2_sum) = (simd.splat_f32s(scale), simd.splat_f32s(-log2_sum));
    let delta = simd.splat_f32s(delta);
    for (p, d_s) in p_vectors.iter_mut().zip(d_s_vectors) {
        *p = exp2(simd, simd.mul_add_f32s(*p, scale, log2_sum));
        *d_s = simd.mul_f32s(*p, simd.sub_f32s(*d_s, delta));
    }
    for unseen in [&mut *p, d_s] {
        unseen[..seen.start.min(seen.end)].fill(0.0);
        unseen[seen.end..].fill(0.0);
    }
}
