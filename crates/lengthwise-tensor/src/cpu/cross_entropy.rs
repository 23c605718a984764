//! Output projection and cross-entropy, a block of tokens at a time.

use super::exp::exp;
use super::linear::matrix;
use super::matrix::{MatrixMut, MatrixRef, multiply};
use super::tile_product::Into;
use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::{LinearCrossEntropy, Tensor};

/// The size of a block's logits, in elements; more only where the block would be below [`MIN_BLOCK`] tokens.
const BLOCK_ELEMENTS: usize = 1 << 20;
const MIN_BLOCK: usize = 64;
const MAX_BLOCK: usize = 1024;

/// How many tokens' logits are held at once.
fn block_tokens(tokens: usize, vocab: usize) -> usize {
    (BLOCK_ELEMENTS / vocab.max(1))
        .clamp(MIN_BLOCK, MAX_BLOCK)
        .min(tokens)
}

/// The most elements that the logits of a block hold.
pub(super) fn scratch_elements(vocab: usize) -> usize {
    block_tokens(usize::MAX, vocab) * vocab
}

pub(super) fn linear_cross_entropy(
    backend: &CpuBackend,
    x: &CpuTensor,
    weight: &CpuTensor,
    targets: &[u32],
    scale: f32,
) -> Result<LinearCrossEntropy<CpuTensor>> {
    const OPERATION: &str = "linear_cross_entropy";
    let (tokens, hidden, vocab) = (x.rows(), x.cols(), weight.rows());
    weight.expect_shape("the output projection", vocab, hidden);
    assert_eq!(targets.len(), tokens, "targets of {x:?}");
    let block = block_tokens(tokens, vocab);
    let mut d_input = backend.storage(OPERATION, tokens, hidden)?;
    let mut d_weight = backend.zeroed(OPERATION, vocab, hidden)?;
    let mut logits = backend.storage(OPERATION, block, vocab)?;
    let mut loss_sum = 0.0;
    for start in (0..tokens).step_by(block.max(1)) {
        let end = (start + block).min(tokens);
        let rows = end - start;
        let x = MatrixRef::new(&x.elements()[start * hidden..], rows, hidden, hidden);
        let logits = &mut logits[..rows * vocab];
        multiply(
            MatrixMut::new(logits, rows, vocab, vocab),
            Into::Replace,
            x,
            matrix(weight).transposed(),
        );
        loss_sum += loss_and_gradient(backend.vectors, logits, vocab, &targets[start..end], scale);
        let d_logits = MatrixRef::new(logits, rows, vocab, vocab);
        multiply(
            MatrixMut::new(&mut d_input[start * hidden..], rows, hidden, hidden),
            Into::Replace,
            d_logits,
            matrix(weight),
        );
        multiply(
            MatrixMut::new(&mut d_weight, vocab, hidden, hidden),
            Into::Add,
            d_logits.transposed(),
            x,
        );
    }
    Ok(LinearCrossEntropy {
        loss_sum,
        d_input: CpuTensor::new(d_input, tokens, hidden),
        d_weight: CpuTensor::new(d_weight, vocab, hidden),
    })
}

pub(super) fn linear_cross_entropy_loss(
    backend: &CpuBackend,
    x: &CpuTensor,
    weight: &CpuTensor,
    targets: &[u32],
) -> Result<f64> {
    let (tokens, hidden, vocab) = (x.rows(), x.cols(), weight.rows());
    weight.expect_shape("the output projection", vocab, hidden);
    assert_eq!(targets.len(), tokens, "targets of {x:?}");
    let block = block_tokens(tokens, vocab);
    let mut logits = backend.storage("linear_cross_entropy_loss", block, vocab)?;
    let mut loss_sum = 0.0;
    for start in (0..tokens).step_by(block.max(1)) {
        let end = (start + block).min(tokens);
        let rows = end - start;
        let logits = &mut logits[..rows * vocab];
        multiply(
            MatrixMut::new(logits, rows, vocab, vocab),
            Into::Replace,
            MatrixRef::new(&x.elements()[start * hidden..], rows, hidden, hidden),
            matrix(weight).transposed(),
        );
        // The gradient that is left in the logits is of no use; it costs little beside the product.
        loss_sum += loss_and_gradient(backend.vectors, logits, vocab, &targets[start..end], 0.0);
    }
    Ok(loss_sum)
}

vectorised! {
    /// The sum of `-log softmax(logits)[target]`; the logits become `scale (softmax(logits) - onehot(target))`.
    fn loss_and_gradient<'a>(
        simd: S,
        logits: &'a mut [f32],
        vocab: usize,
        targets: &'a [u32],
        scale: f32,
    ) -> f64 {
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact_mut(vocab.max(1)).zip(targets) {
            let target = target as usize;
            assert!(target < vocab, "target {target} in a vocabulary of {vocab}");
            let target_logit = row[target];
            let max = row_max(simd, row);
            for x in row.iter_mut() {
                *x = exp(*x - max);
            }
            let sum = row_sum(simd, row);
            loss += f64::from(max) - f64::from(target_logit) + sum.ln();
            let factor = (f64::from(scale) / sum) as f32;
            for x in row.iter_mut() {
                *x *= factor;
            }
            row[target] -= scale;
        }
        loss
    }
}

#[inline(always)]
fn row_max<S: pulp::Simd>(simd: S, row: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut max = simd.splat_f32s(f32::NEG_INFINITY);
    for v in vectors {
        max = simd.max_f32s(max, *v);
    }
    rest.iter()
        .copied()
        .fold(simd.reduce_max_f32s(max), f32::max)
}

/// Vectors are summed in `f32` over short runs, the runs in `f64`: vocabularies are long.
#[inline(always)]
fn row_sum<S: pulp::Simd>(simd: S, row: &[f32]) -> f64 {
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut total = 0.0;
    for run in vectors.chunks(64) {
        let mut sums = [simd.splat_f32s(0.0); 2];
        let (pairs, odd) = run.as_chunks::<2>();
        for [a, b] in pairs {
            sums = [simd.add_f32s(sums[0], *a), simd.add_f32s(sums[1], *b)];
        }
        for a in odd {
            sums[0] = simd.add_f32s(sums[0], *a);
        }
        total += f64::from(simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])));
    }
    total + rest.iter().map(|&x| f64::from(x)).sum::<f64>()
}
