//! Attention's gradients, with the probabilities recomputed per tile from the log-sum-exp.

use super::super::exp::exp;
use super::super::matrix::{Into, MatrixMut, MatrixRef, multiply};
use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use super::{KEY_TILE, QUERY_TILE, check, score_scale, tiles};
use crate::{AttentionLayout, Tensor};

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
    const OPERATION: &str = "attention_backward";
    check(q, k, v, layout);
    let (tokens, heads, dim) = (layout.num_tokens(), layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (q.cols(), k.cols());
    out.expect_shape("attention's output", tokens, q_cols);
    d_out.expect_shape("the gradient of attention", tokens, q_cols);
    lse.expect_shape("log-sum-exp", tokens, heads);
    let scale = score_scale(layout);
    let mut d_q = backend.storage(OPERATION, tokens, q_cols)?;
    let mut d_k = backend.storage(OPERATION, tokens, kv_cols)?;
    let mut d_v = backend.storage(OPERATION, tokens, kv_cols)?;
    let mut scores = backend.storage(OPERATION, QUERY_TILE, KEY_TILE)?;
    let mut d_scores = backend.storage(OPERATION, QUERY_TILE, KEY_TILE)?;
    let mut delta = [0.0f32; QUERY_TILE];
    let mut log_sum_exp = [0.0f32; QUERY_TILE];
    let (q, k, v) = (q.elements(), k.elements(), v.elements());
    let (out, lse, d_out) = (out.elements(), lse.elements(), d_out.elements());
    for sequence in &layout.sequences {
        for (head, &kv_head) in layout.kv_head_of.iter().enumerate() {
            for queries in tiles(sequence.clone(), QUERY_TILE) {
                let rows = queries.len();
                let at = queries.start * q_cols + head * dim;
                for (row, token) in queries.clone().enumerate() {
                    let at = token * q_cols + head * dim;
                    let products = out[at..at + dim].iter().zip(&d_out[at..at + dim]);
                    delta[row] = products.map(|(o, d)| o * d).sum();
                    log_sum_exp[row] = lse[token * heads + head];
                }
                let q = MatrixRef::new(&q[at..], rows, dim, q_cols);
                let d_out = MatrixRef::new(&d_out[at..], rows, dim, q_cols);
                for keys in tiles(sequence.start..queries.end, KEY_TILE) {
                    let cols = keys.len();
                    let kv_at = keys.start * kv_cols + kv_head * dim;
                    let k = MatrixRef::new(&k[kv_at..], cols, dim, kv_cols);
                    let v = MatrixRef::new(&v[kv_at..], cols, dim, kv_cols);
                    let p = &mut scores[..rows * cols];
                    let d_s = &mut d_scores[..rows * cols];
                    multiply(
                        MatrixMut::new(p, rows, cols, cols),
                        Into::Replace,
                        scale,
                        q,
                        k.transposed(),
                    );
                    multiply(
                        MatrixMut::new(d_s, rows, cols, cols),
                        Into::Replace,
                        1.0,
                        d_out,
                        v.transposed(),
                    );
                    let visible = (queries.start + 1).saturating_sub(keys.start);
                    differentiate_scores(
                        backend.arch,
                        p,
                        d_s,
                        cols,
                        visible,
                        &log_sum_exp[..rows],
                        &delta[..rows],
                        scale,
                    );
                    let p = MatrixRef::new(p, rows, cols, cols);
                    let d_s = MatrixRef::new(d_s, rows, cols, cols);
                    multiply(
                        MatrixMut::new(&mut d_v[kv_at..], cols, dim, kv_cols),
                        Into::Add,
                        1.0,
                        p.transposed(),
                        d_out,
                    );
                    multiply(
                        MatrixMut::new(&mut d_k[kv_at..], cols, dim, kv_cols),
                        Into::Add,
                        1.0,
                        d_s.transposed(),
                        q,
                    );
                    multiply(
                        MatrixMut::new(&mut d_q[at..], rows, dim, q_cols),
                        Into::Add,
                        1.0,
                        d_s,
                        k,
                    );
                }
            }
        }
    }
    Ok((
        CpuTensor::new(d_q, tokens, q_cols),
        CpuTensor::new(d_k, tokens, kv_cols),
        CpuTensor::new(d_v, tokens, kv_cols),
    ))
}

vectorised! {
    /// `p` becomes the probabilities, `d_s`, which holds `dO V^T`, the gradient of the unscaled scores.
    fn differentiate_scores<'a>(
        _simd: S,
        p: &'a mut [f32],
        d_s: &'a mut [f32],
        cols: usize,
        visible: usize,
        lse: &'a [f32],
        delta: &'a [f32],
        scale: f32,
    ) {
        let rows = p.chunks_exact_mut(cols).zip(d_s.chunks_exact_mut(cols));
        for (row, (p, d_s)) in rows.enumerate() {
            let seen = (visible + row).min(cols);
            p[seen..].fill(0.0);
            d_s[seen..].fill(0.0);
            for (p, d_s) in p[..seen].iter_mut().zip(&mut d_s[..seen]) {
                *p = exp(*p - lse[row]);
                *d_s = *p * (*d_s - delta[row]) * scale;
            }
        }
    }
}
