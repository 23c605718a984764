//! The CPU backend: one thread per rank, vectorised, its memory counted.

mod adamw;
mod arrange;
mod attention;
mod bias;
mod copying_thread;
mod cross_entropy;
mod elementwise;
mod embedding;
mod exp;
mod free_list;
mod host;
mod linear;
mod matrix;
mod memory_meter;
mod norm;
mod prefetch;
mod rope;
mod storage;
mod swiglu;
mod tensor;
mod tile_product;
mod vectorise;

use std::ops::Range;
use std::sync::Arc;

use lengthwise_core::Bytes;

use crate::{
    AdamW, AttentionLayout, Backend, BackgroundCopy, LinearCrossEntropy, MemoryUse, Rotation,
    TensorError, VectorWidth,
};
use copying_thread::CopyingThread;
pub use host::{CpuHostTensor, HostMemory};
use memory_meter::{MemoryMeter, Owner};
use rope::Direction;
use storage::Storage;
pub use tensor::CpuTensor;
use vectorise::Vectors;

type Result<T> = std::result::Result<T, TensorError>;

/// One rank's CPU "device": computes on the calling thread, in memory of a set size.
///
/// Clones are the same device: they share one count of the bytes held. Everything an operation allocates is
/// counted, its scratch included, and reserved before the memory is touched; only the buffers in which the
/// `gemm` crate packs its operands (at most a few MiB per thread) are not. Freed memory is kept for the next
/// request of its size, and never makes the process larger than the highest peak of the bytes held.
///
/// Its host is the same memory, counted apart: what is copied there is no longer held on the device. A thread of the device's
/// own copies, from the first copy on.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    vectors: Vectors,
    meter: MemoryMeter,
    host: HostMemory,
    /// What this device has moved there.
    moved: MemoryMeter,
    copying: Arc<CopyingThread>,
}

impl CpuBackend {
    /// A device with `budget` bytes of memory, whose host lends it as much as it asks for.
    pub fn new(budget: Bytes) -> Self {
        Self::of(budget, Vectors::of_machine())
    }

    fn of(budget: Bytes, vectors: Vectors) -> Self {
        Self {
            vectors,
            meter: MemoryMeter::new(Owner::Device, budget),
            host: HostMemory::new(Bytes(u64::MAX)),
            moved: MemoryMeter::new(Owner::Host, Bytes(u64::MAX)),
            copying: Arc::default(),
        }
    }

    /// The same device on a host with this memory, which it shares with others that are given clones of it.
    #[must_use]
    pub fn on_host(mut self, host: HostMemory) -> Self {
        self.host = host;
        self
    }

    /// A device with `budget` bytes of memory whose own loops use vectors of this width, to compare widths.
    ///
    /// # Errors
    ///
    /// The processor has no such vectors.
    pub fn with_vectors(budget: Bytes, width: VectorWidth) -> Result<Self> {
        let vectors = Vectors::of_width(width).ok_or(TensorError::NoSuchVectors { width })?;
        Ok(Self::of(budget, vectors))
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
    type HostTensor = CpuHostTensor;

    fn memory(&self) -> MemoryUse {
        self.meter.memory()
    }

    fn scratch_memory(&self, head_dim: usize, vocab: usize) -> Bytes {
        let elements =
            attention::scratch_elements(head_dim).max(cross_entropy::scratch_elements(vocab));
        Bytes(size_of::<f32>() as u64 * elements as u64)
    }

    fn reset_peak_memory(&self) {
        self.meter.reset_peak();
        self.moved.reset_peak();
    }

    fn host_memory(&self) -> MemoryUse {
        self.host.memory()
    }

    fn moved_memory(&self) -> MemoryUse {
        MemoryUse {
            budget: self.host.memory().budget,
            ..self.moved.memory()
        }
    }

    fn reset_peak_host_memory(&self) {
        self.host.reset_peak();
    }

    fn start_copy_to_host(&self, tensor: &CpuTensor) -> Result<BackgroundCopy<CpuHostTensor>> {
        host::start_copy_to_host(self, tensor)
    }

    fn start_copy_from_host(&self, tensor: CpuHostTensor) -> Result<BackgroundCopy<CpuTensor>> {
        host::start_copy_from_host(self, tensor)
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
        elementwise::sum_of_squares(self.vectors, tensor.elements())
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

    fn add_bias(&self, x: &mut CpuTensor, bias: &CpuTensor) -> Result<()> {
        bias::add(self, x, bias)
    }

    fn bias_backward(&self, d_y: &CpuTensor) -> Result<CpuTensor> {
        bias::backward(self, d_y)
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

    fn rope(&self, x: &mut CpuTensor, positions: &[u32], rotation: &Rotation) -> Result<()> {
        rope::rotate(self, "rope", x, positions, rotation, Direction::Forward)
    }

    fn rope_backward(
        &self,
        d_y: &mut CpuTensor,
        positions: &[u32],
        rotation: &Rotation,
    ) -> Result<()> {
        let direction = Direction::Backward;
        rope::rotate(self, "rope_backward", d_y, positions, rotation, direction)
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

    fn merge_attention(
        &self,
        out: &mut CpuTensor,
        lse: &mut CpuTensor,
        other: &CpuTensor,
        other_lse: &CpuTensor,
    ) -> Result<()> {
        attention::merge(self, out, lse, other, other_lse)
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

    fn linear_cross_entropy_loss(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        targets: &[u32],
    ) -> Result<f64> {
        cross_entropy::linear_cross_entropy_loss(self, x, weight, targets)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    /// Results of everything that computes with explicit vectors.
    fn results(vectors: Vectors, head_dim: usize, window: Option<usize>) -> Vec<Vec<f32>> {
        let device = CpuBackend::of(Bytes::from_mib(256), vectors);
        let layout = AttentionLayout {
            window,
            ..AttentionLayout::packed([1, 0, 19, 400], vec![1, 0, 1], 2, head_dim)
        };
        let random = |rows: usize, cols: usize, seed: usize| {
            let elements: Vec<f32> = (0..rows * cols)
                .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0)
                .collect();
            device.from_slice(rows, cols, &elements).unwrap()
        };
        let (q, k) = (random(420, 3 * head_dim, 1), random(420, 2 * head_dim, 2));
        let (v, d_out) = (random(420, 2 * head_dim, 3), random(420, 3 * head_dim, 4));
        let (out, lse) = device.attention(&q, &k, &v, &layout).unwrap();
        let (d_q, d_k, d_v) = device
            .attention_backward(&q, &k, &v, &out, &lse, &d_out, &layout)
            .unwrap();
        let weight = random(1, q.cols(), 5);
        let y = device.rms_norm(&q, &weight, 1e-5).unwrap();
        let (d_x, d_weight) = device.rms_norm_backward(&q, &weight, 1e-5, &d_out).unwrap();
        let projection = random(50, q.cols(), 6);
        let targets: Vec<u32> = (0..420).map(|i| i % 50).collect();
        let loss = device.linear_cross_entropy(&q, &projection, &targets, 0.1);
        let loss = loss.unwrap();
        let tensors = [
            out,
            lse,
            d_q,
            d_k,
            d_v,
            y,
            d_x,
            d_weight,
            loss.d_input,
            loss.d_weight,
        ];
        let mut results: Vec<Vec<f32>> = tensors.iter().map(|t| device.to_vec(t)).collect();
        results.push(vec![loss.loss_sum as f32]);
        results
    }

    #[test]
    fn vectors_are_those_asked_for_or_refused() {
        for width in VectorWidth::ALL {
            assert_eq!(width.to_string().parse(), Ok(width));
            match CpuBackend::with_vectors(Bytes::from_mib(1), width) {
                Ok(device) => {
                    let Vectors::Machine(arch) = device.vectors else {
                        panic!("{width}: {:?}", device.vectors);
                    };
                    // `V3` is how pulp names AVX2, `V4` AVX-512.
                    let name = ["Scalar", "V3", "V4"][width as usize];
                    assert!(format!("{arch:?}").starts_with(name), "{width}: {arch:?}");
                }
                Err(error) => {
                    let expected = format!("the processor has no {width} vectors");
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_width_of_vectors() {
        for (head_dim, window) in [(7, None), (16, Some(33)), (40, None), (64, Some(250))] {
            let expected = results(Vectors::of_machine(), head_dim, window);
            let of_machine = VectorWidth::ALL.into_iter().filter_map(Vectors::of_width);
            let emulated = [Vectors::Scalar, Vectors::Emulated512];
            for vectors in of_machine.chain(emulated) {
                for (got, expected) in results(vectors, head_dim, window).iter().zip(&expected) {
                    let largest = expected.iter().fold(1.0f32, |max, x| max.max(x.abs()));
                    for (got, expected) in got.iter().zip(expected) {
                        let error = (got - expected).abs() / largest;
                        assert!(error < 3e-6, "{vectors:?}: {got} for {expected}");
                    }
                }
            }
        }
    }
}
