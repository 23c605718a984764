//! A row that is added to every row, and its gradient.

use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn add(backend: &CpuBackend, x: &mut CpuTensor, bias: &CpuTensor) -> Result<()> {
    assert_eq!(bias.num_elements(), x.cols(), "elements of the bias");
    let to = x.elements_mut(&backend.meter, "add_bias")?;
    add_rows(backend.vectors, to, bias.elements());
    Ok(())
}

pub(super) fn backward(backend: &CpuBackend, d_y: &CpuTensor) -> Result<CpuTensor> {
    let mut sum = backend.zeroed("bias_backward", d_y.cols(), 1)?;
    sum_rows(backend.vectors, &mut sum, d_y.elements());
    Ok(CpuTensor::new(sum, d_y.cols(), 1))
}

vectorised! {
    fn add_rows<'a>(_simd: S, x: &'a mut [f32], bias: &'a [f32]) {
        for row in x.chunks_exact_mut(bias.len().max(1)) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += *b;
            }
        }
    }
}

vectorised! {
    fn sum_rows<'a>(_simd: S, sum: &'a mut [f32], x: &'a [f32]) {
        for row in x.chunks_exact(sum.len().max(1)) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += *x;
            }
        }
    }
}
