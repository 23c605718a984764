//! Attention's gradients, with the probabilities recomputed per tile from the log-sum-exp.
//!
//! Key blocks are the outer loop: a block's keys and values are packed once, and the gradients of both grow in
//! scratch while tiles of queries pass. Probabilities and gradients of the scores of one tile are held.

use std::ops::Range;

use pulp::Simd;

use super::super::exp::exp2;
use super::super::norm::dot;
use super::super::storage::Storage;
use super::super::tile_product::{
    Into, Left, multiply_panel, pack, pack_transposed, panel_width, panels,
};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{Heads, WIDEST_PANEL, check, odd_lines, strip_rows};
use crate::{AttentionLayout, Tensor};

/// Keys of a block and queries of a tile: multiples of every strip's rows and of every panel's width.
const KEY_BLOCK: usize = 192;
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
    let (tokens, heads) = (layout.num_tokens(), layout.num_heads());
    let (q_cols, kv_cols) = (q.cols(), k.cols());
    out.expect_shape("attention's output", tokens, q_cols);
    d_out.expect_shape("the gradient of attention", tokens, q_cols);
    lse.expect_shape("log-sum-exp", tokens, heads);
    let mut d_q = backend.storage(OPERATION, tokens, q_cols)?;
    let mut d_k = backend.storage(OPERATION, tokens, kv_cols)?;
    let mut d_v = backend.storage(OPERATION, tokens, kv_cols)?;
    let mut scratch = Scratch::new(backend, layout)?;
    run(
        backend.arch,
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
            sequence_start: 0,
        },
        layout,
    );
    Ok((
        CpuTensor::new(d_q, tokens, q_cols),
        CpuTensor::new(d_k, tokens, kv_cols),
        CpuTensor::new(d_v, tokens, kv_cols),
    ))
}

/// What one key block and one query tile need; panels are packed for [`multiply_panel`].
struct Scratch {
    transposed_key_panels: Storage,
    transposed_value_panels: Storage,
    /// Keys and queries times the scale of the scores.
    key_panels: Storage,
    query_panels: Storage,
    d_out_panels: Storage,
    d_keys: Storage,
    d_values: Storage,
    queries: Storage,
    d_outs: Storage,
    d_queries: Storage,
    probabilities: Storage,
    d_scores: Storage,
    /// `rowsum(dO * O)` of each head.
    deltas: Storage,
}

impl Scratch {
    fn new(backend: &CpuBackend, layout: &AttentionLayout) -> Result<Self> {
        let longest = layout.sequences.iter().map(ExactSizeIterator::len).max();
        let longest = longest.unwrap_or(0);
        let rows = strip_rows(backend.arch);
        let dim = layout.head_dim.next_multiple_of(WIDEST_PANEL);
        // Whole strips over keys may pass a block's last panel.
        let keys = longest.min(KEY_BLOCK).next_multiple_of(WIDEST_PANEL);
        let key_strips = keys.next_multiple_of(rows);
        let queries = longest.min(QUERY_TILE).next_multiple_of(rows);
        let storage = |rows, cols| backend.storage(OPERATION, rows, cols);
        Ok(Self {
            transposed_key_panels: storage(keys, dim)?,
            transposed_value_panels: storage(keys, dim)?,
            key_panels: storage(keys, dim)?,
            query_panels: storage(queries, dim)?,
            d_out_panels: storage(queries, dim)?,
            d_keys: storage(key_strips, dim)?,
            d_values: storage(key_strips, dim)?,
            queries: storage(queries, dim)?,
            d_outs: storage(queries, dim)?,
            d_queries: storage(queries, dim)?,
            probabilities: storage(queries, odd_lines(key_strips))?,
            d_scores: storage(queries, odd_lines(key_strips))?,
            deltas: storage(longest, layout.num_heads())?,
        })
    }
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
    sequence_start: usize,
}

vectorised! {
    fn run<'a>(simd: S, backward: Backward<'a>, layout: &'a AttentionLayout) {
        if S::REGISTER_COUNT >= 32 {
            backward.run::<S, 12>(simd, layout);
        } else {
            backward.run::<S, 6>(simd, layout);
        }
    }
}

/// A block of keys and a tile of queries, as rows of the tensors.
#[derive(Clone, Copy)]
struct Tile {
    key: usize,
    num_keys: usize,
    query: usize,
    num_queries: usize,
}

impl Backward<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S, layout: &AttentionLayout) {
        for sequence in &layout.sequences {
            self.sequence_start = sequence.start;
            self.sum_deltas(simd, sequence.clone());
            for kv_head in 0..layout.num_kv_heads {
                if !layout.kv_head_of.contains(&kv_head) {
                    continue;
                }
                for key in sequence.clone().step_by(KEY_BLOCK) {
                    let num_keys = KEY_BLOCK.min(sequence.end - key);
                    self.enter_block::<S>(kv_head, key, num_keys);
                    for (head, _) in layout
                        .kv_head_of
                        .iter()
                        .enumerate()
                        .filter(|(_, of)| **of == kv_head)
                    {
                        for query in (key..sequence.end).step_by(QUERY_TILE) {
                            let num_queries = QUERY_TILE.min(sequence.end - query);
                            let tile = Tile {
                                key,
                                num_keys,
                                query,
                                num_queries,
                            };
                            simd.vectorize(TileOperation::<ROWS> {
                                backward: &mut self,
                                tile,
                                head,
                            });
                        }
                    }
                    self.leave_block::<S>(kv_head, key, num_keys);
                }
            }
        }
    }

    #[inline(always)]
    fn sum_deltas<S: Simd>(&mut self, simd: S, sequence: Range<usize>) {
        let Heads { dim, q_cols, .. } = self.heads;
        let range = sequence.start * q_cols..sequence.end * q_cols;
        let out = self.out[range.clone()].chunks_exact(dim.max(1));
        let d_out = self.d_out[range].chunks_exact(dim.max(1));
        for (delta, (out, d_out)) in self.scratch.deltas.iter_mut().zip(out.zip(d_out)) {
            *delta = dot(simd, out, d_out);
        }
    }

    #[inline(always)]
    fn enter_block<S: Simd>(&mut self, kv_head: usize, key: usize, num_keys: usize) {
        let Heads {
            dim,
            kv_cols,
            scale,
            ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let at = key * kv_cols + kv_head * dim;
        let (k, v) = (&self.k[at..], &self.v[at..]);
        let scratch = &mut *self.scratch;
        pack_transposed::<S>(
            &mut scratch.transposed_key_panels,
            k,
            num_keys,
            dim,
            kv_cols,
        );
        pack_transposed::<S>(
            &mut scratch.transposed_value_panels,
            v,
            num_keys,
            dim,
            kv_cols,
        );
        pack::<S>(
            &mut scratch.key_panels,
            k,
            num_keys,
            dim,
            kv_cols,
            padded,
            scale,
        );
        scratch.d_keys.fill(0.0);
        scratch.d_values.fill(0.0);
    }

    #[inline(always)]
    fn leave_block<S: Simd>(&mut self, kv_head: usize, key: usize, num_keys: usize) {
        let Heads { dim, kv_cols, .. } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let results = [
            (&mut *self.d_k, &self.scratch.d_keys),
            (&mut *self.d_v, &self.scratch.d_values),
        ];
        for (to, from) in results {
            for row in 0..num_keys {
                let at = (key + row) * kv_cols + kv_head * dim;
                to[at..at + dim].copy_from_slice(&from[row * padded..][..dim]);
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(&mut self, simd: S, tile: Tile, head: usize) {
        let Heads {
            dim,
            q_cols,
            heads,
            scale,
            log2_scale,
            ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let width = panel_width::<S>();
        let Tile {
            key,
            num_keys,
            query,
            num_queries,
        } = tile;
        let scratch = &mut *self.scratch;
        let at = query * q_cols + head * dim;
        let (q, d_out) = (&self.q[at..], &self.d_out[at..]);
        pack::<S>(
            &mut scratch.query_panels,
            q,
            num_queries,
            dim,
            q_cols,
            padded,
            scale,
        );
        pack::<S>(
            &mut scratch.d_out_panels,
            d_out,
            num_queries,
            dim,
            q_cols,
            padded,
            1.0,
        );
        for row in 0..num_queries {
            let from = row * q_cols..row * q_cols + dim;
            scratch.queries[row * dim..][..dim].copy_from_slice(&q[from.clone()]);
            scratch.d_outs[row * dim..][..dim].copy_from_slice(&d_out[from]);
        }
        // How many keys the rows before `row` of the tile see at most.
        let seen_before = |row: usize| num_keys.min(query + row - key);
        let seen = seen_before(num_queries);
        // Wide enough for whole strips over keys.
        let stride = odd_lines(seen.next_multiple_of(width).next_multiple_of(ROWS));
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
                let skipped = (key + col).saturating_sub(query) / ROWS * ROWS;
                for row in (skipped..num_queries).step_by(ROWS) {
                    let a = Left::ByRows(&a[row * dim..], dim);
                    let c = (&mut c[row * stride + col..], stride);
                    multiply_panel::<S, ROWS>(simd, dim, a, panel, c, Into::Replace);
                }
            }
        }
        for row in 0..num_queries {
            let token = query + row;
            let log2_sum = self.lse[token * heads + head] * std::f32::consts::LOG2_E;
            differentiate_scores(
                simd,
                &mut scratch.probabilities[row * stride..][..stride],
                &mut scratch.d_scores[row * stride..][..stride],
                seen_before(row + 1),
                log2_scale,
                log2_sum,
                scratch.deltas[(token - self.sequence_start) * heads + head],
            );
        }
        for (col, panel_cols) in panels::<S>(padded) {
            let panel = &scratch.key_panels[col * num_keys..][..panel_cols * num_keys];
            for row in (0..num_queries).step_by(ROWS) {
                let seen = seen_before((row + ROWS).min(num_queries));
                let a = Left::ByRows(&scratch.d_scores[row * stride..], stride);
                let c = (&mut scratch.d_queries[row * padded + col..], padded);
                multiply_panel::<S, ROWS>(simd, seen, a, (panel, panel_cols), c, Into::Replace);
            }
        }
        for row in 0..num_queries {
            let at = (query + row) * q_cols + head * dim;
            let part = &scratch.d_queries[row * padded..][..dim];
            for (sum, x) in self.d_q[at..at + dim].iter_mut().zip(part) {
                *sum += *x;
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
            for (col, panel_cols) in panels::<S>(padded) {
                for first in (0..seen).step_by(ROWS) {
                    // Queries before the strip's first key do not see it.
                    let skipped = (key + first).saturating_sub(query);
                    let depth = num_queries - skipped;
                    let a = Left::ByDepth(&a[skipped * stride + first..], stride);
                    let panel =
                        &b[col * num_queries + skipped * panel_cols..][..depth * panel_cols];
                    let c = (&mut c[first * padded + col..], padded);
                    multiply_panel::<S, ROWS>(simd, depth, a, (panel, panel_cols), c, Into::Add);
                }
            }
        }
    }
}

struct TileOperation<'a, 'b, const ROWS: usize> {
    backward: &'a mut Backward<'b>,
    tile: Tile,
    head: usize,
}

impl<const ROWS: usize> pulp::WithSimd for TileOperation<'_, '_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.backward.tile::<S, ROWS>(simd, self.tile, self.head);
    }
}

/// Scores become probabilities, and `dO V^T` in `d_s` the gradient of the scaled scores; 0 from `seen` on.
#[inline(always)]
fn differentiate_scores<S: Simd>(
    simd: S,
    p: &mut [f32],
    d_s: &mut [f32],
    seen: usize,
    scale: f32,
    log2_sum: f32,
    delta: f32,
) {
    let vectors = seen.next_multiple_of(S::F32_LANES);
    let (p_vectors, _) = S::as_mut_simd_f32s(&mut p[..vectors]);
    let (d_s_vectors, _) = S::as_mut_simd_f32s(&mut d_s[..vectors]);
    let (scale, log2_sum) = (simd.splat_f32s(scale), simd.splat_f32s(-log2_sum));
    let delta = simd.splat_f32s(delta);
    for (p, d_s) in p_vectors.iter_mut().zip(d_s_vectors) {
        *p = exp2(simd, simd.mul_add_f32s(*p, scale, log2_sum));
        *d_s = simd.mul_f32s(*p, simd.sub_f32s(*d_s, delta));
    }
    p[seen..].fill(0.0);
    d_s[seen..].fill(0.0);
}
