//! Attention's output and log-sum-exp.
//!
//! Key blocks are the outer loop: a block's keys and values are packed once and stay in the second-level cache
//! while tiles of queries pass over it, so do a tile's scores through both products. Between blocks a row's running maximum is kept in the
//! place of its log-sum-exp, its running sum in scratch, and its running output in the result.

use pulp::Simd;

use super::super::exp::exp2;
use super::super::tile_product::{
    Into, Left, multiply_panel, pack, pack_transposed, panel_width, panels,
};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{Heads, WIDEST_PANEL, check, odd_lines, strip_rows};
use crate::{AttentionLayout, Tensor};

/// Keys of a block and queries of a tile: multiples of every strip's rows, the former of every panel's width.
const KEY_BLOCK: usize = 192;
const QUERY_TILE: usize = 48;

pub(in super::super) fn forward(
    backend: &CpuBackend,
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    layout: &AttentionLayout,
) -> Result<(CpuTensor, CpuTensor)> {
    const OPERATION: &str = "attention";
    check(q, k, v, layout);
    let (tokens, heads) = (layout.num_tokens(), layout.num_heads());
    let mut out = backend.storage(OPERATION, tokens, q.cols())?;
    let mut lse = backend.storage(OPERATION, tokens, heads)?;
    let longest = layout.sequences.iter().map(ExactSizeIterator::len).max();
    let longest = longest.unwrap_or(0);
    let dim = layout.head_dim.next_multiple_of(WIDEST_PANEL);
    let keys = longest.min(KEY_BLOCK).next_multiple_of(WIDEST_PANEL);
    let rows = strip_rows(backend.arch);
    let rows = longest.min(QUERY_TILE).next_multiple_of(rows);
    let mut sums = backend.storage(OPERATION, longest, heads)?;
    let mut key_panels = backend.storage(OPERATION, keys, dim)?;
    let mut value_panels = backend.storage(OPERATION, keys, dim)?;
    let mut queries = backend.storage(OPERATION, rows, dim)?;
    let mut outputs = backend.storage(OPERATION, rows, dim)?;
    let mut scores = backend.storage(OPERATION, rows, odd_lines(keys))?;
    run(
        backend.arch,
        Forward {
            q: q.elements(),
            k: k.elements(),
            v: v.elements(),
            out: &mut out,
            lse: &mut lse,
            sums: &mut sums,
            key_panels: &mut key_panels,
            value_panels: &mut value_panels,
            queries: &mut queries,
            outputs: &mut outputs,
            scores: &mut scores,
            heads: Heads::of(layout),
        },
        layout,
    );
    Ok((
        CpuTensor::new(out, tokens, q.cols()),
        CpuTensor::new(lse, tokens, heads),
    ))
}

struct Forward<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a mut [f32],
    /// The running maximum in units of `log2`, until a row is done.
    lse: &'a mut [f32],
    sums: &'a mut [f32],
    key_panels: &'a mut [f32],
    value_panels: &'a mut [f32],
    /// Scratch of one tile.
    queries: &'a mut [f32],
    outputs: &'a mut [f32],
    scores: &'a mut [f32],
    heads: Heads,
}

vectorised! {
    fn run<'a>(simd: S, forward: Forward<'a>, layout: &'a AttentionLayout) {
        if S::REGISTER_COUNT >= 32 {
            forward.run::<S, 12>(simd, layout);
        } else {
            forward.run::<S, 6>(simd, layout);
        }
    }
}

/// A block of keys and the sequence it is part of.
#[derive(Clone, Copy)]
struct Block {
    sequence_start: usize,
    sequence_end: usize,
    start: usize,
    len: usize,
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S, layout: &AttentionLayout) {
        let Heads { dim, kv_cols, .. } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        for sequence in &layout.sequences {
            for start in sequence.clone().step_by(KEY_BLOCK) {
                let len = KEY_BLOCK.min(sequence.end - start);
                let block = Block {
                    sequence_start: sequence.start,
                    sequence_end: sequence.end,
                    start,
                    len,
                };
                for kv_head in 0..layout.num_kv_heads {
                    let at = start * kv_cols + kv_head * dim;
                    let mut packed = false;
                    for (head, _) in layout
                        .kv_head_of
                        .iter()
                        .enumerate()
                        .filter(|(_, of)| **of == kv_head)
                    {
                        if !packed {
                            let (k, v) = (&self.k[at..], &self.v[at..]);
                            pack_transposed::<S>(self.key_panels, k, len, dim, kv_cols);
                            pack::<S>(self.value_panels, v, len, dim, kv_cols, padded, 1.0);
                            packed = true;
                        }
                        for row in (start..sequence.end).step_by(QUERY_TILE) {
                            simd.vectorize(TileOperation::<ROWS> {
                                forward: &mut self,
                                block,
                                head,
                                row,
                            });
                        }
                    }
                }
            }
        }
    }

    /// A tile of one head's queries, from row `first` on, attends to a block.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        block: Block,
        head: usize,
        first: usize,
    ) {
        let Heads {
            dim,
            q_cols,
            heads,
            log2_scale,
            ..
        } = self.heads;
        let padded = dim.next_multiple_of(S::F32_LANES);
        let width = panel_width::<S>();
        let rows = QUERY_TILE.min(block.sequence_end - first);
        // How many keys the rows before `row` of the tile see at most.
        let seen_before = |row: usize| block.len.min(first + row - block.start);
        let score_cols = seen_before(rows).next_multiple_of(width);
        let stride = odd_lines(score_cols);
        for row in 0..rows {
            let from = (first + row) * q_cols + head * dim;
            self.queries[row * dim..][..dim].copy_from_slice(&self.q[from..from + dim]);
        }
        for (col, panel_cols) in panels::<S>(score_cols) {
            let panel = &self.key_panels[col * dim..][..panel_cols * dim];
            // Strips that see none of the panel's keys are left out.
            let skipped = (block.start + col).saturating_sub(first) / ROWS * ROWS;
            for row in (skipped..rows).step_by(ROWS) {
                let a = Left::ByRows(&self.queries[row * dim..], dim);
                let c = (&mut self.scores[row * stride + col..], stride);
                multiply_panel::<S, ROWS>(simd, dim, a, (panel, panel_cols), c, Into::Replace);
            }
        }
        let is_first = block.start == block.sequence_start;
        for row in 0..rows {
            let token = first + row;
            let scores = &mut self.scores[row * stride..][..score_cols];
            let max = &mut self.lse[token * heads + head];
            let sum = &mut self.sums[(token - block.sequence_start) * heads + head];
            let old_max = if is_first { f32::NEG_INFINITY } else { *max };
            let seen = seen_before(row + 1);
            let (new_max, new_sum) = softmax(simd, scores, seen, log2_scale, old_max);
            *max = new_max;
            if is_first {
                *sum = new_sum;
            } else {
                let rescale = (old_max - new_max).exp2();
                *sum = sum.mul_add(rescale, new_sum);
                let from = token * q_cols + head * dim;
                let output = &mut self.outputs[row * padded..][..dim];
                for (to, x) in output.iter_mut().zip(&self.out[from..from + dim]) {
                    *to = *x * rescale;
                }
            }
        }
        let into = if is_first { Into::Replace } else { Into::Add };
        for (col, panel_cols) in panels::<S>(padded) {
            let panel = &self.value_panels[col * block.len..][..panel_cols * block.len];
            for row in (0..rows).step_by(ROWS) {
                let seen = seen_before((row + ROWS).min(rows));
                let a = Left::ByRows(&self.scores[row * stride..], stride);
                let c = (&mut self.outputs[row * padded + col..], padded);
                multiply_panel::<S, ROWS>(simd, seen, a, (panel, panel_cols), c, into);
            }
        }
        for row in 0..rows {
            let token = first + row;
            // The block with its own key is a row's last one.
            let is_last = token < block.start + block.len;
            let mut factor = 1.0;
            if is_last {
                let sum = self.sums[(token - block.sequence_start) * heads + head];
                let max = &mut self.lse[token * heads + head];
                *max = *max * std::f32::consts::LN_2 + sum.ln();
                factor = 1.0 / sum;
            }
            let to = token * q_cols + head * dim;
            let output = &self.outputs[row * padded..][..dim];
            for (to, x) in self.out[to..to + dim].iter_mut().zip(output) {
                *to = *x * factor;
            }
        }
    }
}

struct TileOperation<'a, 'b, const ROWS: usize> {
    forward: &'a mut Forward<'b>,
    block: Block,
    head: usize,
    row: usize,
}

impl<const ROWS: usize> pulp::WithSimd for TileOperation<'_, '_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.forward
            .tile::<S, ROWS>(simd, self.block, self.head, self.row);
    }
}

/// Turns the first `seen` scores into `2^(scale * score - maximum)` and the others into 0, with the maximum of
/// `old_max` and all `scale * score`; returns it and the sum.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    scores: &mut [f32],
    seen: usize,
    scale: f32,
    old_max: f32,
) -> (f32, f32) {
    let (scores, unseen) = scores.split_at_mut(seen.next_multiple_of(panel_width::<S>()));
    unseen.fill(0.0);
    scores[seen..].fill(f32::NEG_INFINITY);
    let (vectors, _) = S::as_mut_simd_f32s(scores);
    let mut maxima = [simd.splat_f32s(f32::NEG_INFINITY); 2];
    for pair in vectors.chunks_exact(2) {
        maxima[0] = simd.max_f32s(maxima[0], pair[0]);
        maxima[1] = simd.max_f32s(maxima[1], pair[1]);
    }
    let max = simd.reduce_max_f32s(simd.max_f32s(maxima[0], maxima[1]));
    let max = old_max.max(max * scale);
    let (scale, minus_max) = (simd.splat_f32s(scale), simd.splat_f32s(-max));
    let mut sums = [simd.splat_f32s(0.0); 2];
    for pair in vectors.chunks_exact_mut(2) {
        for (x, sum) in pair.iter_mut().zip(&mut sums) {
            *x = exp2(simd, simd.mul_add_f32s(*x, scale, minus_max));
            *sum = simd.add_f32s(*sum, *x);
        }
    }
    let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
    scores[seen..].fill(0.0);
    (max, sum)
}
