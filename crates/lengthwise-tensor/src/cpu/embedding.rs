//! Rows of a table by token id.

use super::{CpuBackend, CpuTensor, Result};
use crate::Tensor;

pub(super) fn forward(backend: &CpuBackend, table: &CpuTensor, ids: &[u32]) -> Result<CpuTensor> {
    let cols = table.cols();
    let mut rows = backend.storage("embedding", ids.len(), cols)?;
    if cols > 0 {
        for (row, &id) in rows.chunks_exact_mut(cols).zip(ids) {
            row.copy_from_slice(&table.elements()[row_of(id, table.rows(), cols)]);
        }
    }
    Ok(CpuTensor::new(rows, ids.len(), cols))
}

pub(super) fn backward(
    backend: &CpuBackend,
    d_y: &CpuTensor,
    ids: &[u32],
    vocab: usize,
) -> Result<CpuTensor> {
    let cols = d_y.cols();
    d_y.expect_shape("the gradient of embeddings", ids.len(), cols);
    let mut table = backend.zeroed("embedding_backward", vocab, cols)?;
    if cols > 0 {
        for (row, &id) in d_y.elements().chunks_exact(cols).zip(ids) {
            let sum = &mut table[row_of(id, vocab, cols)];
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += *x;
            }
        }
    }
    Ok(CpuTensor::new(table, vocab, cols))
}

fn row_of(id: u32, vocab: usize, cols: usize) -> std::ops::Range<usize> {
    let id = id as usize;
    assert!(id < vocab, "token id {id} in a vocabulary of {vocab}");
    id * cols..(id + 1) * cols
}
