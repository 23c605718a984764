//! The elements of tensors and scratch, each held on a device's meter.

use std::ops::{Deref, DerefMut};

use lengthwise_core::Bytes;

use super::memory_meter::{MemoryMeter, Reservation};
use crate::TensorError;

/// The widest vector register and the cache line of the machines this runs on.
const ALIGNMENT: usize = 64;

/// A fixed number of elements, from a cache line's start, and the bytes they hold on a device.
#[derive(Debug)]
pub(super) struct Storage {
    allocation: Vec<f32>,
    start: usize,
    len: usize,
    _reservation: Reservation,
}

impl Storage {
    /// `len` zeros. `operation` names the purpose in an out-of-memory error.
    ///
    /// The pages come zeroed from the system, so zeros that are overwritten cost nothing. The alignment's
    /// slack, below one cache line, is not counted.
    pub(super) fn zeros(
        meter: &MemoryMeter,
        operation: &'static str,
        len: usize,
    ) -> Result<Self, TensorError> {
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        let reservation = meter.reserve(operation, Bytes(bytes))?;
        let slack = ALIGNMENT / size_of::<f32>();
        let allocation = vec![0.0f32; len + slack];
        let start = allocation.as_ptr().align_offset(ALIGNMENT).min(slack);
        Ok(Self {
            allocation,
            start,
            len,
            _reservation: reservation,
        })
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
