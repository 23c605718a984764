//! The elements of tensors and scratch, each held on a device's meter.

use std::mem;
use std::ops::{Deref, DerefMut};

use lengthwise_core::Bytes;

use super::free_list;
use super::memory_meter::{MemoryMeter, Reservation};
use crate::TensorError;

/// The widest vector register and the cache line of the machines this runs on.
const ALIGNMENT: usize = 64;
const SLACK: usize = ALIGNMENT / size_of::<f32>();

/// A fixed number of elements, from a cache line's start, and the bytes they hold on a device.
///
/// Counted are the elements: the alignment's slack, below one cache line, and what a reused allocation is too
/// large, at most a sixteenth, are not.
#[derive(Debug)]
pub(super) struct Storage {
    allocation: Vec<f32>,
    start: usize,
    len: usize,
    reservation: Reservation,
}

impl Storage {
    /// `len` zeros. `operation` names the purpose in an out-of-memory error.
    pub(super) fn zeros(
        meter: &MemoryMeter,
        operation: &'static str,
        len: usize,
    ) -> Result<Self, TensorError> {
        let (mut storage, reused) = Self::new(meter, operation, len)?;
        if reused {
            storage.fill(0.0);
        }
        Ok(storage)
    }

    /// `len` elements of any value, for results that are written before they are read.
    pub(super) fn unset(
        meter: &MemoryMeter,
        operation: &'static str,
        len: usize,
    ) -> Result<Self, TensorError> {
        let (mut storage, _) = Self::new(meter, operation, len)?;
        // Every test of a result fails where an element is read that was not written.
        if cfg!(debug_assertions) {
            storage.fill(f32::NAN);
        }
        Ok(storage)
    }

    /// Zeros, or what reused memory held before.
    fn new(
        meter: &MemoryMeter,
        operation: &'static str,
        len: usize,
    ) -> Result<(Self, bool), TensorError> {
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        let reservation = meter.reserve(operation, Bytes(bytes))?;
        let reused = if len >= free_list::SMALLEST {
            meter.reuse(len + SLACK)
        } else {
            None
        };
        let is_reused = reused.is_some();
        // Fresh pages come zeroed from the system, so zeros that are overwritten cost nothing.
        let allocation = reused.unwrap_or_else(|| vec![0.0; len + SLACK]);
        let start = allocation.as_ptr().align_offset(ALIGNMENT).min(SLACK);
        let storage = Self {
            allocation,
            start,
            len,
            reservation,
        };
        Ok((storage, is_reused))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.len >= free_list::SMALLEST {
            let allocation = mem::take(&mut self.allocation);
            self.reservation.meter().recycle(allocation);
        }
    }
}

impl Deref for Storage {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.allocation[self.start..self.start + self.len]
    }
}

impl DerefMut for Storage {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.allocation[self.start..self.start + self.len]
    }
}
