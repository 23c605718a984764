//! RMSNorm: `y = x / r * weight` with `r = sqrt(mean(x^2) + epsilon)` per row (Zhang & Sennrich, 2019).

use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn forward(
    backend: &CpuBackend,
    x: &CpuTensor,
    weight: &CpuTensor,
    epsilon: f32,
) -> Result<CpuTensor> {
    let (rows, cols) = (x.rows(), x.cols());
    assert_eq!(weight.num_elements(), cols, "elements of the norm's weight");
    let mut y = backend.storage("rms_norm", rows, cols)?;
    normalise(
        backend.vectors,
        &mut y,
        x.elements(),
        weight.elements(),
        epsilon,
    );
    Ok(CpuTensor::new(y, rows, cols))
}

pub(super) fn backward(
    backend: &CpuBackend,
    x: &CpuTensor,
    weight: &CpuTensor,
    epsilon: f32,
    d_y: &CpuTensor,
) -> Result<(CpuTensor, CpuTensor)> {
    let (rows, cols) = (x.rows(), x.cols());
    assert_eq!(weight.num_elements(), cols, "elements of the norm's weight");
    d_y.expect_shape("the gradient of a norm", rows, cols);
    let mut d_x = backend.storage("rms_norm_backward", rows, cols)?;
    let mut d_weight = backend.zeroed("rms_norm_backward", weight.rows(), weight.cols())?;
    differentiate(
        backend.vectors,
        &mut d_x,
        &mut d_weight,
        x.elements(),
        weight.elements(),
        epsilon,
        d_y.elements(),
    );
    Ok((
        CpuTensor::new(d_x, rows, cols),
        CpuTensor::new(d_weight, weight.rows(), weight.cols()),
    ))
}

vectorised! {
    fn normalise<'a>(
        simd: S,
        y: &'a mut [f32],
        x: &'a [f32],
        weight: &'a [f32],
        epsilon: f32,
    ) {
        let cols = weight.len();
        if cols == 0 {
            return;
        }
        for (y, x) in y.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
            let inverse = inverse_rms(dot(simd, x, x), cols, epsilon);
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = *x * inverse * *w;
            }
        }
    }
}

vectorised! {
    /// With `n = x / r` and `g = d_y * weight`: `d_x = (g - n mean(g * n)) / r`, `d_weight = sum(d_y * n)`.
    fn differentiate<'a>(
        simd: S,
        d_x: &'a mut [f32],
        d_weight: &'a mut [f32],
        x: &'a [f32],
        weight: &'a [f32],
        epsilon: f32,
        d_y: &'a [f32],
    ) {
        let cols = weight.len();
        if cols == 0 {
            return;
        }
        let rows = x.chunks_exact(cols).zip(d_y.chunks_exact(cols));
        for (d_x, (x, d_y)) in d_x.chunks_exact_mut(cols).zip(rows) {
            let inverse = inverse_rms(dot(simd, x, x), cols, epsilon);
            for (((d_x, d_w), x), (d_y, w)) in
                d_x.iter_mut().zip(&mut *d_weight).zip(x).zip(d_y.iter().zip(weight))
            {
                *d_w = (*d_y * *x).mul_add(inverse, *d_w);
                *d_x = *d_y * *w;
            }
            let mean = dot(simd, d_x, x) * inverse / cols as f32;
            let factor = -mean * inverse * inverse;
            for (d_x, x) in d_x.iter_mut().zip(x) {
                *d_x = x.mul_add(factor, *d_x * inverse);
            }
        }
    }
}

#[inline(always)]
fn inverse_rms(sum_of_squares: f32, cols: usize, epsilon: f32) -> f32 {
    1.0 / (sum_of_squares / cols as f32 + epsilon).sqrt()
}

/// The inner product, in four vectors of partial sums.
#[inline(always)]
pub(super) fn dot<S: pulp::Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    let (a4, a1) = a.as_chunks::<4>();
    let (b4, b1) = b.as_chunks::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a4.iter().zip(b4) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = simd.mul_add_f32s(*a, *b, *sum);
        }
    }
    for (a, b) in a1.iter().zip(b1) {
        sums[0] = simd.mul_add_f32s(*a, *b, sums[0]);
    }
    let sum = simd.add_f32s(
        simd.add_f32s(sums[0], sums[1]),
        simd.add_f32s(sums[2], sums[3]),
    );
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}
