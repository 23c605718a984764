//! The CPU backend: one thread per rank, vectorised, its memory counted.

mod adamw;
mod arrange;
mod attention;
mod cross_entropy;
mod elementwise;
mod embedding;
mod exp;
mod free_list;
mod linear;
mod matrix;
mod memory_meter;
mod norm;
mod rope;
mod storage;
mod swiglu;
mod tensor;
mod tile_product;
mod vectorise;

use std::ops::Range;

use lengthwise_core::Bytes;

use crate::{AdamW, AttentionLayout, Backend, LinearCrossEntropy, MemoryUse, TensorError};
use memory_meter::MemoryMeter;
use rope::Direction;
use storage::Storage;
pub use tensor::CpuTensor;

type Result<T> = std::result::Result<T, TensorError>;

/// One rank's CPU "device": computes on the calling thread, in memory of a set size.
///
/// Clones are the same device: they share one count of the bytes held. Everything an operation allocates is
/// counted, its scratch included, and reserved before the memory is touched; only the buffers in which the
/// `gemm` crate packs its operands (at most a few MiB per thread) are not. Freed memory is kept for the next
/// request of its size, and never makes the process larger than the highest peak of the bytes held.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    arch: pulp::Arch,
    meter: MemoryMeter,
}

impl CpuBackend {
    /// A device with `budget` bytes of memory.
    pub fn new(budget: Bytes) -> Self {
        Self {
            arch: pulp::Arch::new(),
            meter: MemoryMeter::new(budget),
        }
    }

    /// Memory for a result or scratch, to be written before it is read.
    fn storage(&self, operation: &'static str, rows: usize, cols: usize) -> Result<Storage> {
        Storage::unset(&self.meter, operation, rows.saturating_mul(cols))
    }

    /// Memory for a sum that grows from zero.
    fn zeroed(&self, operation: &'static str, rows: usize, cols: usize) -> Result<Storage> {
        Storage::zeros(&self.meter, operation, rows.saturating_mul(cols))
    }
}

impl Backend for CpuBackend {
    type Tensor = CpuTensor;

    fn memory(&self) -> MemoryUse {
        self.meter.memory()
    }

    fn reset_peak_memory(&self) {
        self.meter.reset_peak();
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<CpuTensor> {
        CpuTensor::zeros(&self.meter, "zeros", rows, cols)
    }

    fn from_slice(&self, rows: usize, cols: usize, elements: &[f32]) -> Result<CpuTensor> {
        arrange::from_slice(self, rows, cols, elements)
    }

    fn to_vec(&self, tensor: &CpuTensor) -> Vec<f32> {
        tensor.elements().to_vec()
    }

    fn view(&self, tensor: &CpuTensor, offset: usize, rows: usize, cols: usize) -> CpuTensor {
        tensor.view(offset, rows, cols)
    }

    fn slice_cols(&self, tensor: &CpuTensor, cols: Range<usize>) -> Result<CpuTensor> {
        arrange::slice_cols(self, tensor, cols)
    }

    fn concat_rows(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        arrange::concat_rows(self, parts)
    }

    fn concat_cols(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        arrange::concat_cols(self, parts)
    }

    fn concat_flat(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        arrange::concat_flat(self, parts)
    }

    fn add(&self, a: &CpuTensor, b: &CpuTensor) -> Result<CpuTensor> {
        elementwise::sum(self, "add", &[a, b])
    }

    fn add_assign(&self, a: &mut CpuTensor, b: &CpuTensor) -> Result<()> {
        elementwise::add_assign(self, a, b)
    }

    fn add_assign_cols(&self, a: &mut CpuTensor, start: usize, b: &CpuTensor) -> Result<()> {
        elementwise::add_assign_cols(self, a, start, b)
    }

    fn sum(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        elementwise::sum(self, "sum", &parts.iter().collect::<Vec<_>>())
    }

    fn sum_of_squares(&self, tensor: &CpuTensor) -> f64 {
        elementwise::sum_of_squares(self.arch, tensor.elements())
    }

    fn linear(&self, x: &CpuTensor, weight: &CpuTensor) -> Result<CpuTensor> {
        linear::forward(self, x, weight)
    }

    fn linear_backward_input(&self, d_y: &CpuTensor, weight: &CpuTensor) -> Result<CpuTensor> {
        linear::backward_input(self, d_y, weight)
    }

    fn linear_backward_weight(&self, d_y: &CpuTensor, x: &CpuTensor) -> Result<CpuTensor> {
        linear::backward_weight(self, d_y, x)
    }

    fn rms_norm(&self, x: &CpuTensor, weight: &CpuTensor, epsilon: f32) -> Result<CpuTensor> {
        norm::forward(self, x, weight, epsilon)
    }

    fn rms_norm_backward(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        epsilon: f32,
        d_y: &CpuTensor,
    ) -> Result<(CpuTensor, CpuTensor)> {
        norm::backward(self, x, weight, epsilon, d_y)
    }

    fn rope(
        &self,
        x: &mut CpuTensor,
        positions: &[u32],
        head_dim: usize,
        theta: f32,
    ) -> Result<()> {
        let direction = Direction::Forward;
        rope::rotate(self, "rope", x, positions, head_dim, theta, direction)
    }

    fn rope_backward(
        &self,
        d_y: &mut CpuTensor,
        positions: &[u32],
        head_dim: usize,
        theta: f32,
    ) -> Result<()> {
        let direction = Direction::Backward;
        rope::rotate(
            self,
            "rope_backward",
            d_y,
            positions,
            head_dim,
            theta,
            direction,
        )
    }

    fn swiglu(&self, gate: &CpuTensor, up: &CpuTensor) -> Result<CpuTensor> {
        swiglu::forward(self, gate, up)
    }

    fn swiglu_backward(
        &self,
        gate: &CpuTensor,
        up: &CpuTensor,
        d_y: &CpuTensor,
    ) -> Result<(CpuTensor, CpuTensor)> {
        swiglu::backward(self, gate, up, d_y)
    }

    fn embedding(&self, table: &CpuTensor, ids: &[u32]) -> Result<CpuTensor> {
        embedding::forward(self, table, ids)
    }

    fn embedding_backward(&self, d_y: &CpuTensor, ids: &[u32], vocab: usize) -> Result<CpuTensor> {
        embedding::backward(self, d_y, ids, vocab)
    }

    fn attention(
        &self,
        q: &CpuTensor,
        k: &CpuTensor,
        v: &CpuTensor,
        layout: &AttentionLayout,
    ) -> Result<(CpuTensor, CpuTensor)> {
        attention::forward(self, q, k, v, layout)
    }

    fn attention_backward(
        &self,
        q: &CpuTensor,
        k: &CpuTensor,
        v: &CpuTensor,
        out: &CpuTensor,
        lse: &CpuTensor,
        d_out: &CpuTensor,
        layout: &AttentionLayout,
    ) -> Result<(CpuTensor, CpuTensor, CpuTensor)> {
        attention::backward(self, q, k, v, out, lse, d_out, layout)
    }

    fn linear_cross_entropy(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        targets: &[u32],
        scale: f32,
    ) -> Result<LinearCrossEntropy<CpuTensor>> {
        cross_entropy::linear_cross_entropy(self, x, weight, targets, scale)
    }

    fn adamw(
        &self,
        parameter: &mut CpuTensor,
        gradient: &CpuTensor,
        first_moment: &mut CpuTensor,
        second_moment: &mut CpuTensor,
        update: &AdamW,
    ) -> Result<()> {
        adamw::update(
            self,
            parameter,
            gradient,
            first_moment,
            second_moment,
            update,
        )
    }
}
