//! Linear maps, whose weights are stored `[out, in]`.

use super::matrix::{MatrixMut, MatrixRef, multiply};
use super::tile_product::Into;
use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

/// The whole tensor as a matrix.
pub(super) fn matrix(tensor: &CpuTensor) -> MatrixRef<'_> {
    MatrixRef::new(
        tensor.elements(),
        tensor.rows(),
        tensor.cols(),
        tensor.cols(),
    )
}

pub(super) fn forward(
    backend: &CpuBackend,
    x: &CpuTensor,
    weight: &CpuTensor,
) -> Result<CpuTensor> {
    weight.expect_shape("the weight of a linear map", weight.rows(), x.cols());
    product(backend, "linear", matrix(x), matrix(weight).transposed())
}

pub(super) fn backward_input(
    backend: &CpuBackend,
    d_y: &CpuTensor,
    weight: &CpuTensor,
) -> Result<CpuTensor> {
    weight.expect_shape("the weight of a linear map", d_y.cols(), weight.cols());
    product(
        backend,
        "linear_backward_input",
        matrix(d_y),
        matrix(weight),
    )
}

pub(super) fn backward_weight(
    backend: &CpuBackend,
    d_y: &CpuTensor,
    x: &CpuTensor,
) -> Result<CpuTensor> {
    x.expect_shape("the input of a linear map", d_y.rows(), x.cols());
    product(
        backend,
        "linear_backward_weight",
        matrix(d_y).transposed(),
        matrix(x),
    )
}

fn product(
    backend: &CpuBackend,
    operation: &'static str,
    lhs: MatrixRef<'_>,
    rhs: MatrixRef<'_>,
) -> Result<CpuTensor> {
    let (rows, cols) = (lhs.rows(), rhs.cols());
    let mut storage = backend.storage(operation, rows, cols)?;
    let dst = MatrixMut::new(&mut storage, rows, cols, cols);
    multiply(dst, Into::Replace, lhs, rhs);
    Ok(CpuTensor::new(storage, rows, cols))
}
