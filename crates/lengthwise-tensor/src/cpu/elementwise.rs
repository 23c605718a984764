//! Sums of tensors and of squares.

use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn sum(
    backend: &CpuBackend,
    operation: &'static str,
    parts: &[&CpuTensor],
) -> Result<CpuTensor> {
    let first = parts.first().expect("a sum has one part or more");
    let (rows, cols) = (first.rows(), first.cols());
    for part in parts {
        part.expect_shape("a part of a sum", rows, cols);
    }
    // The running sum of a chunk stays in the first cache while the parts stream past.
    const CHUNK: usize = 2048;
    let mut storage = backend.storage(operation, rows, cols)?;
    for (index, to) in storage.chunks_mut(CHUNK).enumerate() {
        let range = index * CHUNK..index * CHUNK + to.len();
        to.copy_from_slice(&first.elements()[range.clone()]);
        for part in &parts[1..] {
            add_slice(backend.vectors, to, &part.elements()[range.clone()]);
        }
    }
    Ok(CpuTensor::new(storage, rows, cols))
}

pub(super) fn add_assign(backend: &CpuBackend, a: &mut CpuTensor, b: &CpuTensor) -> Result<()> {
    b.expect_shape("what is added", a.rows(), a.cols());
    let to = a.elements_mut(&backend.meter, "add_assign")?;
    add_slice(backend.vectors, to, b.elements());
    Ok(())
}

pub(super) fn add_assign_cols(
    backend: &CpuBackend,
    a: &mut CpuTensor,
    start: usize,
    b: &CpuTensor,
) -> Result<()> {
    let (cols, width) = (a.cols(), b.cols());
    b.expect_shape("what is added to columns", a.rows(), width);
    assert!(
        start + width <= cols,
        "columns {start} to {} of {a:?}",
        start + width
    );
    let to = a.elements_mut(&backend.meter, "add_assign_cols")?;
    if width > 0 {
        let parts = b.elements().chunks_exact(width);
        for (to, part) in to.chunks_exact_mut(cols).zip(parts) {
            add_slice(backend.vectors, &mut to[start..start + width], part);
        }
    }
    Ok(())
}

vectorised! {
    fn add_slice<'a>(_simd: S, to: &'a mut [f32], part: &'a [f32]) {
        for (a, b) in to.iter_mut().zip(part) {
            *a += *b;
        }
    }
}

vectorised! {
    /// Summed in `f64`, in eight interleaved sums.
    pub(super) fn sum_of_squares<'a>(_simd: S, elements: &'a [f32]) -> f64 {
        let (chunks, rest) = elements.as_chunks::<8>();
        let mut sums = [0.0f64; 8];
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                let x = f64::from(x);
                *sum = x.mul_add(x, *sum);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        sums.iter().sum::<f64>() + rest
    }
}
