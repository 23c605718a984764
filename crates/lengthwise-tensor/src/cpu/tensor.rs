//! A matrix in a device's memory.

use std::fmt;
use std::sync::Arc;

use super::memory_meter::MemoryMeter;
use super::storage::Storage;
use crate::{Tensor, TensorError};

/// A row-major `f32` matrix in memory counted by a [`CpuBackend`](crate::CpuBackend).
///
/// Clones and views share the storage; its bytes are held until the last of them is dropped.
#[derive(Clone)]
pub struct CpuTensor {
    storage: Arc<Storage>,
    offset: usize,
    rows: usize,
    cols: usize,
}

impl CpuTensor {
    pub(super) fn zeros(
        meter: &MemoryMeter,
        operation: &'static str,
        rows: usize,
        cols: usize,
    ) -> Result<Self, TensorError> {
        let storage = Storage::zeros(meter, operation, rows.saturating_mul(cols))?;
        Ok(Self::new(storage, rows, cols))
    }

    /// All of `storage`.
    pub(super) fn new(storage: Storage, rows: usize, cols: usize) -> Self {
        assert_eq!(storage.len(), rows * cols);
        Self {
            storage: Arc::new(storage),
            offset: 0,
            rows,
            cols,
        }
    }

    pub(super) fn view(&self, offset: usize, rows: usize, cols: usize) -> Self {
        assert!(
            offset + rows * cols <= self.num_elements(),
            "a view of {rows} x {cols} elements at {offset} does not fit into {self:?}"
        );
        Self {
            storage: Arc::clone(&self.storage),
            offset: self.offset + offset,
            rows,
            cols,
        }
    }

    /// The elements, row by row.
    pub(super) fn elements(&self) -> &[f32] {
        &self.storage[self.offset..self.offset + self.num_elements()]
    }

    /// The elements to be changed in place, copied first where the storage is shared.
    pub(super) fn elements_mut(
        &mut self,
        meter: &MemoryMeter,
        operation: &'static str,
    ) -> Result<&mut [f32], TensorError> {
        if Arc::get_mut(&mut self.storage).is_none() {
            let mut copy = Storage::unset(meter, operation, self.num_elements())?;
            copy.copy_from_slice(self.elements());
            *self = Self::new(copy, self.rows, self.cols);
        }
        let range = self.offset..self.offset + self.num_elements();
        let storage = Arc::get_mut(&mut self.storage).expect("the storage has one owner by now");
        Ok(&mut storage[range])
    }

    /// Panics unless the shape is `rows x cols`.
    #[track_caller]
    pub(super) fn expect_shape(&self, name: &str, rows: usize, cols: usize) {
        assert!(
            self.rows == rows && self.cols == cols,
            "{name} is {} x {}, which should be {rows} x {cols}",
            self.rows,
            self.cols
        );
    }
}

impl Tensor for CpuTensor {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

impl fmt::Debug for CpuTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuTensor({} x {})", self.rows, self.cols)
    }
}
