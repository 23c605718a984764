//! The operations a decoder needs, each with its explicit backward, behind one [`Backend`] trait.
//!
//! A tensor is a row-major `f32` matrix `[rows, cols]` on one device: a row is a token, or an output
//! feature of a weight. Every rank has a backend of its own, which counts the bytes its tensors hold and
//! refuses to pass the device's memory ([`TensorError::OutOfMemory`]).

mod attention_layout;
mod backend;
mod cpu;
mod error;

pub use attention_layout::AttentionLayout;
pub use backend::{AdamW, Backend, LinearCrossEntropy, MemoryUse, Tensor};
pub use cpu::{CpuBackend, CpuTensor};
pub use error::TensorError;
