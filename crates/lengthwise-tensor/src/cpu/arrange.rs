//! Copies that slice and join tensors.

use std::ops::Range;

use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn from_slice(
    backend: &CpuBackend,
    rows: usize,
    cols: usize,
    elements: &[f32],
) -> Result<CpuTensor> {
    assert_eq!(
        elements.len(),
        rows * cols,
        "elements of a {rows} x {cols} tensor"
    );
    let mut storage = backend.storage("from_slice", rows, cols)?;
    storage.copy_from_slice(elements);
    Ok(CpuTensor::new(storage, rows, cols))
}

pub(super) fn slice_cols(
    backend: &CpuBackend,
    tensor: &CpuTensor,
    range: Range<usize>,
) -> Result<CpuTensor> {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    assert!(
        range.start <= range.end && range.end <= cols,
        "columns {range:?} of {tensor:?}"
    );
    let width = range.len();
    let mut storage = backend.storage("slice_cols", rows, width)?;
    if width > 0 {
        let source = tensor.elements().chunks_exact(cols);
        for (to, from) in storage.chunks_exact_mut(width).zip(source) {
            to.copy_from_slice(&from[range.clone()]);
        }
    }
    Ok(CpuTensor::new(storage, rows, width))
}

pub(super) fn concat_rows(backend: &CpuBackend, parts: &[CpuTensor]) -> Result<CpuTensor> {
    let cols = parts.first().map_or(0, Tensor::cols);
    for part in parts {
        part.expect_shape("a part beside others of equal columns", part.rows(), cols);
    }
    let rows = parts.iter().map(Tensor::rows).sum();
    concat(backend, "concat_rows", parts, rows, cols)
}

pub(super) fn concat_flat(backend: &CpuBackend, parts: &[CpuTensor]) -> Result<CpuTensor> {
    let elements = parts.iter().map(Tensor::num_elements).sum();
    concat(backend, "concat_flat", parts, elements, 1)
}

fn concat(
    backend: &CpuBackend,
    operation: &'static str,
    parts: &[CpuTensor],
    rows: usize,
    cols: usize,
) -> Result<CpuTensor> {
    let mut storage = backend.storage(operation, rows, cols)?;
    let mut rest = &mut storage[..];
    for part in parts {
        let (to, after) = rest.split_at_mut(part.num_elements());
        to.copy_from_slice(part.elements());
        rest = after;
    }
    Ok(CpuTensor::new(storage, rows, cols))
}

pub(super) fn concat_cols(backend: &CpuBackend, parts: &[CpuTensor]) -> Result<CpuTensor> {
    let rows = parts.first().map_or(0, Tensor::rows);
    let cols = parts.iter().map(Tensor::cols).sum();
    let mut storage = backend.storage("concat_cols", rows, cols)?;
    let mut start = 0;
    for part in parts {
        part.expect_shape("a part beside others of equal rows", rows, part.cols());
        let width = part.cols();
        if width > 0 {
            let source = part.elements().chunks_exact(width);
            for (to, from) in storage.chunks_exact_mut(cols).zip(source) {
                to[start..start + width].copy_from_slice(from);
            }
        }
        start += width;
    }
    Ok(CpuTensor::new(storage, rows, cols))
}
