//! Attention over two sets of keys, merged by the log-sum-exps.

use super::super::vectorise::vectorised;
use super::super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

const OPERATION: &str = "merge_attention";

pub(in super::super) fn merge(
    backend: &CpuBackend,
    out: &mut CpuTensor,
    lse: &mut CpuTensor,
    other: &CpuTensor,
    other_lse: &CpuTensor,
) -> Result<()> {
    let (rows, cols, heads) = (out.rows(), out.cols(), lse.cols());
    lse.expect_shape("log-sum-exp", rows, heads);
    other.expect_shape("attention to other keys", rows, cols);
    other_lse.expect_shape("log-sum-exp of other keys", rows, heads);
    if heads == 0 {
        return Ok(());
    }
    let dim = cols / heads;
    let out = out.elements_mut(&backend.meter, OPERATION)?;
    let lse = lse.elements_mut(&backend.meter, OPERATION)?;
    let (other, other_lse) = (other.elements(), other_lse.elements());
    merge_heads(backend.vectors, out, lse, other, other_lse, dim);
    Ok(())
}

vectorised! {
    /// Merges `dim` elements of each head of each row.
    fn merge_heads<'a>(
        _simd: S,
        out: &'a mut [f32],
        lse: &'a mut [f32],
        other: &'a [f32],
        other_lse: &'a [f32],
        dim: usize,
    ) {
        let heads = out.chunks_exact_mut(dim).zip(lse).zip(other.chunks_exact(dim));
        for (((out, lse), other), &other_lse) in heads.zip(other_lse) {
            let Some(Weights { mine, others, merged }) = Weights::of(*lse, other_lse) else {
                continue;
            };
            *lse = merged;
            for (x, y) in out.iter_mut().zip(other) {
                *x = mine.mul_add(*x, others * y);
            }
        }
    }
}

/// The shares of two sets of keys in what a query attends to.
struct Weights {
    mine: f32,
    others: f32,
    /// The log-sum-exp over both.
    merged: f32,
}

impl Weights {
    /// None where the query sees no other key.
    #[inline(always)]
    fn of(mine: f32, other: f32) -> Option<Self> {
        if other == f32::NEG_INFINITY {
            return None;
        }
        let largest = mine.max(other);
        let merged = largest + ((mine - largest).exp() + (other - largest).exp()).ln();
        Some(Weights {
            mine: (mine - merged).exp(),
            others: (other - merged).exp(),
            merged,
        })
    }
}
