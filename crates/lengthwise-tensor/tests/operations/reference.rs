//! Random inputs, comparison, and finite differences.

use lengthwise_core::Bytes;
use lengthwise_tensor::{Backend, CpuBackend, CpuTensor, Tensor};

/// Rounding of sums of some hundred `f32` products, relative to the largest element.
pub const TOLERANCE: f64 = 5e-6;

pub fn device() -> CpuBackend {
    CpuBackend::new(Bytes::from_mib(1024))
}

/// Numbers between -1 and 1, the same for the same seed (SplitMix64).
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len)
        .map(|_| (next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        .collect()
}

/// A random tensor and its elements in `f64`.
pub fn random_tensor(
    device: &CpuBackend,
    seed: u64,
    rows: usize,
    cols: usize,
) -> (CpuTensor, Vec<f64>) {
    let elements = random(seed, rows * cols);
    let tensor = device.from_slice(rows, cols, &elements).unwrap();
    (tensor, wide(&elements))
}

pub fn wide(elements: &[f32]) -> Vec<f64> {
    elements.iter().map(|&x| f64::from(x)).collect()
}

/// Panics unless the tensor has this shape and all its elements are within [`TOLERANCE`] of the largest
/// expected one, or of 1 where that is smaller.
#[track_caller]
pub fn assert_close(name: &str, got: &CpuTensor, rows: usize, cols: usize, expected: &[f64]) {
    assert_eq!((got.rows(), got.cols()), (rows, cols), "shape of {name}");
    assert_eq!(expected.len(), rows * cols, "reference of {name}");
    let largest = expected.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    for (index, (got, expected)) in device().to_vec(got).iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs() / largest;
        assert!(
            error <= TOLERANCE,
            "{name}[{index}] is {got}, expected {expected}; relative error {error:e}"
        );
    }
}

/// The gradient of `sum(f(inputs) * d_out)` with respect to input `which`, by central differences.
pub fn finite_differences(
    f: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    inputs: &[Vec<f64>],
    which: usize,
    d_out: &[f64],
) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut inputs = inputs.to_vec();
    let objective =
        |inputs: &[Vec<f64>]| -> f64 { f(inputs).iter().zip(d_out).map(|(y, d)| y * d).sum() };
    (0..inputs[which].len())
        .map(|index| {
            let x = inputs[which][index];
            inputs[which][index] = x + STEP;
            let above = objective(&inputs);
            inputs[which][index] = x - STEP;
            let below = objective(&inputs);
            inputs[which][index] = x;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// `a b` for row-major `[m, k]` and `[k, n]`.
pub fn matmul(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
    let mut product = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                product[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
    product
}

/// The transpose of row-major `[rows, cols]`.
pub fn transpose(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols * rows)
        .map(|at| a[(at % rows) * cols + at / rows])
        .collect()
}
