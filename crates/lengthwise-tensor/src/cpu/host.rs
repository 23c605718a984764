//! The memory of a host, beside that of its devices.

use lengthwise_core::Bytes;

use super::memory_meter::{MemoryMeter, Owner, Reservation};
use super::storage::Storage;
use super::{CpuBackend, CpuTensor, Result};
use crate::{BackgroundCopy, HostTensor, MemoryUse, Tensor};

/// The memory of a node's host, for what its devices move there. Clones are the same memory, shared by the devices.
#[derive(Clone, Debug)]
pub struct HostMemory {
    meter: MemoryMeter,
}

impl HostMemory {
    /// A host that lends `budget` bytes to its devices.
    pub fn new(budget: Bytes) -> Self {
        HostMemory {
            meter: MemoryMeter::new(Owner::Host, budget),
        }
    }

    /// How full it is.
    pub fn memory(&self) -> MemoryUse {
        self.meter.memory()
    }

    pub(super) fn reset_peak(&self) {
        self.meter.reset_peak();
    }
}

/// A matrix in the memory of a host.
#[derive(Debug)]
pub struct CpuHostTensor {
    copy: CpuTensor,
    /// Of what its device has moved there.
    _moved: Reservation,
}

impl HostTensor for CpuHostTensor {
    fn bytes(&self) -> Bytes {
        num_bytes(&self.copy)
    }
}

pub(super) fn start_copy_to_host(
    backend: &CpuBackend,
    tensor: &CpuTensor,
) -> Result<BackgroundCopy<CpuHostTensor>> {
    let copy = Storage::unset(&backend.host.meter, "copy_to_host", tensor.num_elements())?;
    let moved = backend.moved.reserve("copy_to_host", num_bytes(tensor))?;
    let tensor = tensor.clone();
    Ok(backend.copying.start(move || CpuHostTensor {
        copy: filled(copy, &tensor),
        _moved: moved,
    }))
}

pub(super) fn start_copy_from_host(
    backend: &CpuBackend,
    tensor: CpuHostTensor,
) -> Result<BackgroundCopy<CpuTensor>> {
    let on_host = &tensor.copy;
    let copy = backend.storage("copy_from_host", on_host.rows(), on_host.cols())?;
    Ok(backend.copying.start(move || filled(copy, &tensor.copy)))
}

fn num_bytes(tensor: &CpuTensor) -> Bytes {
    Bytes(size_of::<f32>() as u64 * tensor.num_elements() as u64)
}

fn filled(mut copy: Storage, tensor: &CpuTensor) -> CpuTensor {
    copy.copy_from_slice(tensor.elements());
    CpuTensor::new(copy, tensor.rows(), tensor.cols())
}
