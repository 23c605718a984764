//! SwiGLU: `silu(gate) * up` with `silu(x) = x / (1 + e^-x)` (Shazeer, 2020).

use super::exp::exp;
use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn forward(backend: &CpuBackend, gate: &CpuTensor, up: &CpuTensor) -> Result<CpuTensor> {
    let (rows, cols) = (gate.rows(), gate.cols());
    up.expect_shape("what is gated", rows, cols);
    let mut y = backend.storage("swiglu", rows, cols)?;
    activate(backend.vectors, &mut y, gate.elements(), up.elements());
    Ok(CpuTensor::new(y, rows, cols))
}

pub(super) fn backward(
    backend: &CpuBackend,
    gate: &CpuTensor,
    up: &CpuTensor,
    d_y: &CpuTensor,
) -> Result<(CpuTensor, CpuTensor)> {
    let (rows, cols) = (gate.rows(), gate.cols());
    up.expect_shape("what is gated", rows, cols);
    d_y.expect_shape("the gradient of SwiGLU", rows, cols);
    let mut d_gate = backend.storage("swiglu_backward", rows, cols)?;
    let mut d_up = backend.storage("swiglu_backward", rows, cols)?;
    differentiate(
        backend.vectors,
        &mut d_gate,
        &mut d_up,
        gate.elements(),
        up.elements(),
        d_y.elements(),
    );
    Ok((
        CpuTensor::new(d_gate, rows, cols),
        CpuTensor::new(d_up, rows, cols),
    ))
}

vectorised! {
    fn activate<'a>(_simd: S, y: &'a mut [f32], gate: &'a [f32], up: &'a [f32]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = *gate * sigmoid(*gate) * *up;
        }
    }
}

vectorised! {
    /// With `s = sigmoid(gate)`: `silu' = s (1 + gate (1 - s))`.
    fn differentiate<'a>(
        _simd: S,
        d_gate: &'a mut [f32],
        d_up: &'a mut [f32],
        gate: &'a [f32],
        up: &'a [f32],
        d_y: &'a [f32],
    ) {
        let inputs = gate.iter().zip(up).zip(d_y);
        for ((d_gate, d_up), ((gate, up), d_y)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
            let s = sigmoid(*gate);
            *d_up = *d_y * *gate * s;
            *d_gate = *d_y * *up * s * gate.mul_add(1.0 - s, 1.0);
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}
