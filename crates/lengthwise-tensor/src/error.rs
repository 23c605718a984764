//! Errors of a device.

use lengthwise_core::Bytes;
use thiserror::Error;

use crate::VectorWidth;

/// An error of a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TensorError {
    /// A tensor that would pass the device's memory.
    #[error(
        "out of device memory: {operation} asks for {request} while {held} are held; the device has {budget}"
    )]
    OutOfMemory {
        /// The use of the tensor.
        operation: &'static str,
        /// The bytes it needs.
        request: Bytes,
        /// The bytes held by other tensors.
        held: Bytes,
        /// The memory of the device.
        budget: Bytes,
    },
    /// A tensor that would pass the memory of the host.
    #[error(
        "out of host memory: a copy from a device asks for {request} while the devices of the node hold {held}; \
         there are {budget} for all of them"
    )]
    OutOfHostMemory {
        /// The bytes it needs.
        request: Bytes,
        /// The bytes held by what was copied before.
        held: Bytes,
        /// The memory that the host lends to its devices.
        budget: Bytes,
    },
    /// Vectors that the machine does not have.
    #[error("the processor has no {width} vectors")]
    NoSuchVectors {
        /// What was asked for.
        width: VectorWidth,
    },
}
