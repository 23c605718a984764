//! Attention's output and log-sum-exp.

use super::super::exp::exp;
use super::super::matrix::{Into, MatrixMut, MatrixRef, multiply};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{KEY_TILE, QUERY_TILE, check, score_scale, tiles};
use crate::{AttentionLayout, Tensor};

pub(in super::super) fn forward(
    backend: &CpuBackend,
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    layout: &AttentionLayout,
) -> Result<(CpuTensor, CpuTensor)> {
    check(q, k, v, layout);
    let (tokens, heads, dim) = (layout.num_tokens(), layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (q.cols(), k.cols());
    let scale = score_scale(layout);
    let mut out = backend.storage("attention", tokens, q_cols)?;
    let mut lse = backend.storage("attention", tokens, heads)?;
    let mut scores = backend.storage("attention", QUERY_TILE, KEY_TILE)?;
    let mut max = [0.0f32; QUERY_TILE];
    let mut sum = [0.0f32; QUERY_TILE];
    let (q, k, v) = (q.elements(), k.elements(), v.elements());
    for sequence in &layout.sequences {
        for (head, &kv_head) in layout.kv_head_of.iter().enumerate() {
            for queries in tiles(sequence.clone(), QUERY_TILE) {
                let rows = queries.len();
                max[..rows].fill(f32::NEG_INFINITY);
                sum[..rows].fill(0.0);
                let at = queries.start * q_cols + head * dim;
                for keys in tiles(sequence.start..queries.end, KEY_TILE) {
                    let kv_at = keys.start * kv_cols + kv_head * dim;
                    let cols = keys.len();
                    let scores = &mut scores[..rows * cols];
                    multiply(
                        MatrixMut::new(scores, rows, cols, cols),
                        Into::Replace,
                        scale,
                        MatrixRef::new(&q[at..], rows, dim, q_cols),
                        MatrixRef::new(&k[kv_at..], cols, dim, kv_cols).transposed(),
                    );
                    let visible = (queries.start + 1).saturating_sub(keys.start);
                    online_softmax(
                        backend.arch,
                        scores,
                        cols,
                        visible,
                        &mut max[..rows],
                        &mut sum[..rows],
                        &mut out[at..],
                        dim,
                        q_cols,
                    );
                    multiply(
                        MatrixMut::new(&mut out[at..], rows, dim, q_cols),
                        Into::Add,
                        1.0,
                        MatrixRef::new(scores, rows, cols, cols),
                        MatrixRef::new(&v[kv_at..], cols, dim, kv_cols),
                    );
                }
                for (row, token) in queries.enumerate() {
                    lse[token * heads + head] = max[row] + sum[row].ln();
                    let inverse = 1.0 / sum[row];
                    let at = token * q_cols + head * dim;
                    for x in &mut out[at..at + dim] {
                        *x *= inverse;
                    }
                }
            }
        }
    }
    Ok((
        CpuTensor::new(out, tokens, q_cols),
        CpuTensor::new(lse, tokens, heads),
    ))
}

vectorised! {
    /// Turns the scores of a tile into `exp(score - running maximum)`, and scales what was summed so far to it.
    ///
    /// The first row sees `visible` keys of the tile, each further row one more.
    fn online_softmax<'a>(
        _simd: S,
        scores: &'a mut [f32],
        cols: usize,
        visible: usize,
        max: &'a mut [f32],
        sum: &'a mut [f32],
        out: &'a mut [f32],
        dim: usize,
        out_stride: usize,
    ) {
        for (row, scores) in scores.chunks_exact_mut(cols).enumerate() {
            let (seen, hidden) = scores.split_at_mut((visible + row).min(cols));
            hidden.fill(0.0);
            let old = max[row];
            let mut new = old;
            for x in seen.iter() {
                new = new.max(*x);
            }
            if new == f32::NEG_INFINITY {
                continue;
            }
            max[row] = new;
            let rescale = exp(old - new);
            for x in seen.iter_mut() {
                *x = exp(*x - new);
            }
            sum[row] = sum[row] * rescale + seen.iter().sum::<f32>();
            for x in &mut out[row * out_stride..row * out_stride + dim] {
                *x *= rescale;
            }
        }
    }
}
