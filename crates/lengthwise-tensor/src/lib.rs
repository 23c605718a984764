//! The operations a decoder needs, each with its explicit backward, behind one [`Backend`] trait.
//!
//! A tensor is a row-major `f32` matrix `[rows, cols]` on one device: a row is a token, or an output
//! feature of a weight. Every rank has a backend of its own, which counts the bytes its tensors hold and
//! refuses to pass the device's memory ([`TensorError::OutOfMemory`]).
//!
//! | forward | what its backward is given | memory beside arguments and results |
//! | --- | --- | --- |
//! | [`linear`](Backend::linear) | input, weight | none |
//! | [`add_bias`](Backend::add_bias) | nothing | none |
//! | [`rms_norm`](Backend::rms_norm) | input, weight | none |
//! | [`rope`](Backend::rope) | positions | none |
//! | [`swiglu`](Backend::swiglu) | both inputs | none |
//! | [`embedding`](Backend::embedding) | ids | none |
//! | [`attention`](Backend::attention) | inputs, output, log-sum-exp | a few blocks of one head; a number per token and head |
//! | [`linear_cross_entropy`](Backend::linear_cross_entropy) | (computes it in the same pass) | the logits of a block of tokens |
//!
//! [`CpuBackend`] computes on the calling thread with the widest vectors of the machine. What is not needed for a while can be
//! moved to the memory of the host in the background ([`Backend::start_copy_to_host`]), which has a count and a limit of its own.
//!
//! ```
//! use lengthwise_core::Bytes;
//! use lengthwise_tensor::{AttentionLayout, Backend, CpuBackend, TensorError};
//!
//! let device = CpuBackend::new(Bytes::from_mib(1));
//! let x = device.from_slice(3, 2, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])?;
//! // Two sequences, of two tokens and one; one head of two features.
//! let layout = AttentionLayout::packed([2, 1], vec![0], 1, 2);
//! let (out, _lse) = device.attention(&x, &x, &x, &layout)?;
//! // The first token of a sequence sees only itself.
//! assert_eq!(device.to_vec(&device.slice_rows(&out, 0..1)), [1.0, 0.0]);
//! assert_eq!(device.to_vec(&device.slice_rows(&out, 2..3)), [1.0, 1.0]);
//! assert!(device.zeros(1024, 1024).is_err());
//! # Ok::<(), TensorError>(())
//! ```

mod attention_layout;
mod backend;
mod background_copy;
mod cpu;
mod error;
mod rotation;
mod vector_width;

pub use attention_layout::{AttentionLayout, AttentionSpan};
pub use backend::{AdamW, Backend, HostTensor, LinearCrossEntropy, MemoryUse, Tensor};
pub use background_copy::{BackgroundCopy, CopyEnd};
pub use cpu::{CpuBackend, CpuHostTensor, CpuTensor, HostMemory};
pub use error::TensorError;
pub use rotation::Rotation;
pub use vector_width::VectorWidth;
