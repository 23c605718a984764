//! The operations of a device.

use std::fmt::Debug;
use std::ops::Range;

use lengthwise_core::Bytes;

use crate::{AttentionLayout, BackgroundCopy, Rotation, TensorError};

type Result<T> = std::result::Result<T, TensorError>;

/// A row-major `f32` matrix on a device. Clones and views share its storage.
pub trait Tensor: Clone + Debug + Send + Sync + 'static {
    /// How many rows it has.
    fn rows(&self) -> usize;
    /// How many columns it has.
    fn cols(&self) -> usize;
    /// How many elements it has.
    fn num_elements(&self) -> usize {
        self.rows() * self.cols()
    }
}

/// A matrix in the memory of a host: nothing that can be computed with.
pub trait HostTensor: Debug + Send + Sync + 'static {
    /// The bytes that it holds there.
    fn bytes(&self) -> Bytes;
}

/// The bytes of a device or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held by tensors now.
    pub held: Bytes,
    /// The most that was held at once since the last reset, such as [`Backend::reset_peak_memory`].
    pub peak: Bytes,
    /// All there is.
    pub budget: Bytes,
}

/// One update by AdamW (Loshchilov & Hutter, 2019): decoupled weight decay, bias-corrected moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of the weight that is taken off, times the learning rate.
    pub weight_decay: f32,
    /// Number of this step, counted from 1, for the bias correction.
    pub step: u64,
    /// Factor on the gradient before it is used, such as that of clipping.
    pub gradient_scale: f32,
}

/// The result of [`Backend::linear_cross_entropy`].
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy<T> {
    /// Sum over tokens of `-log softmax(logits)[target]`, unscaled.
    pub loss_sum: f64,
    /// Gradient with respect to the input, `[tokens, hidden]`, scaled.
    pub d_input: T,
    /// Gradient with respect to the projection, `[vocab, hidden]`, scaled.
    pub d_weight: T,
}

/// One rank's device: it allocates tensors and computes with them.
///
/// Every operation allocates its result on this device; arguments may live on another device of the
/// process. Shapes that do not fit are a bug of the caller and panic; running out of memory is an error.
/// `d_x` is the gradient of the loss with respect to `x`.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Its tensors.
    type Tensor: Tensor;
    /// What it has moved to the memory of its host.
    type HostTensor: HostTensor;

    // ---- memory

    /// How full the device is.
    fn memory(&self) -> MemoryUse;
    /// The most that an operation holds beside its arguments and results, however many the tokens, for heads of
    /// `head_dim` features and a vocabulary of `vocab` ids. Attention's two numbers per token and head come on top.
    fn scratch_memory(&self, head_dim: usize, vocab: usize) -> Bytes;
    /// Lets [`MemoryUse::peak`] of the device, and of what it has moved to its host, start again from what is held now.
    fn reset_peak_memory(&self);

    // ---- the host

    /// How full the memory of the host is, which devices may share.
    fn host_memory(&self) -> MemoryUse;
    /// What this device has moved there.
    fn moved_memory(&self) -> MemoryUse;
    /// Lets the [`MemoryUse::peak`] of the host start again from what is held now.
    fn reset_peak_host_memory(&self);
    /// Begins to copy a tensor to the host, in the background. The bytes of the copy are held on the host from now on.
    fn start_copy_to_host(&self, tensor: &Self::Tensor)
    -> Result<BackgroundCopy<Self::HostTensor>>;
    /// Begins to copy a tensor back to the device, in the background. The bytes of the copy are held on the device from now
    /// on, those on the host until it has ended.
    fn start_copy_from_host(
        &self,
        tensor: Self::HostTensor,
    ) -> Result<BackgroundCopy<Self::Tensor>>;

    // ---- making and moving

    /// A tensor of zeros.
    fn zeros(&self, rows: usize, cols: usize) -> Result<Self::Tensor>;
    /// A tensor with the given elements, row by row.
    #[allow(
        clippy::wrong_self_convention,
        reason = "the device makes the tensor, from a slice"
    )]
    fn from_slice(&self, rows: usize, cols: usize, elements: &[f32]) -> Result<Self::Tensor>;
    /// The elements, row by row.
    fn to_vec(&self, tensor: &Self::Tensor) -> Vec<f32>;
    /// `rows x cols` elements from element `offset` on, sharing the storage of `tensor`.
    fn view(&self, tensor: &Self::Tensor, offset: usize, rows: usize, cols: usize) -> Self::Tensor;
    /// A range of rows, sharing the storage of `tensor`.
    fn slice_rows(&self, tensor: &Self::Tensor, rows: Range<usize>) -> Self::Tensor {
        let cols = tensor.cols();
        self.view(tensor, rows.start * cols, rows.len(), cols)
    }
    /// A copy of a range of columns.
    fn slice_cols(&self, tensor: &Self::Tensor, cols: Range<usize>) -> Result<Self::Tensor>;
    /// All rows one after the other; the parts have equal columns. Copies.
    fn concat_rows(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// All columns beside each other; the parts have equal rows. Copies.
    fn concat_cols(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// All elements one after the other as one column, `[elements, 1]`. Copies.
    fn concat_flat(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;

    // ---- element-wise

    /// `a + b`.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// `a += b`. Copies `a` first where its storage is shared.
    fn add_assign(&self, a: &mut Self::Tensor, b: &Self::Tensor) -> Result<()>;
    /// `a[:, start ..] += b`. Copies `a` first where its storage is shared.
    fn add_assign_cols(&self, a: &mut Self::Tensor, start: usize, b: &Self::Tensor) -> Result<()>;
    /// The element-wise sum of one part or more of equal shape, added in the order given.
    fn sum(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// The sum of all squared elements.
    fn sum_of_squares(&self, tensor: &Self::Tensor) -> f64;

    // ---- linear maps; weights are stored [out, in] as in PyTorch

    /// `x W^T`: `[tokens, in]` and `[out, in]` give `[tokens, out]`.
    fn linear(&self, x: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;
    /// `d_y W`: `[tokens, in]`.
    fn linear_backward_input(
        &self,
        d_y: &Self::Tensor,
        weight: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// `d_y^T x`: `[out, in]`.
    fn linear_backward_weight(&self, d_y: &Self::Tensor, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Adds `bias`, which has one element per column, to every row of `x`. Copies `x` first where its storage is shared.
    fn add_bias(&self, x: &mut Self::Tensor, bias: &Self::Tensor) -> Result<()>;
    /// The gradient of the bias of [`Backend::add_bias`]: the sum of all rows of `d_y`, `[cols, 1]`.
    fn bias_backward(&self, d_y: &Self::Tensor) -> Result<Self::Tensor>;

    // ---- decoder parts

    /// `x / rms(x) * weight` per row (Zhang & Sennrich, 2019); `weight` has one element per column.
    fn rms_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        epsilon: f32,
    ) -> Result<Self::Tensor>;
    /// `(d_x, d_weight)` of [`Backend::rms_norm`]; `d_weight` has the shape of `weight`.
    fn rms_norm_backward(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        epsilon: f32,
        d_y: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;

    /// Rotary position embedding (Su et al., 2021) of every head, in place: `positions` holds the place of each
    /// row's token in its own sequence. Pair `i` of a head turns by `position * frequencies[i]`. Copies `x` first where
    /// its storage is shared.
    fn rope(&self, x: &mut Self::Tensor, positions: &[u32], rotation: &Rotation) -> Result<()>;
    /// The gradient of [`Backend::rope`], in place: the rotation by the opposite angle, with the same factor.
    fn rope_backward(
        &self,
        d_y: &mut Self::Tensor,
        positions: &[u32],
        rotation: &Rotation,
    ) -> Result<()>;

    /// `silu(gate) * up` (Shazeer, 2020).
    fn swiglu(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor>;
    /// `(d_gate, d_up)` of [`Backend::swiglu`].
    fn swiglu_backward(
        &self,
        gate: &Self::Tensor,
        up: &Self::Tensor,
        d_y: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;

    /// The rows of `table` (`[vocab, hidden]`) at `ids`: `[tokens, hidden]`.
    fn embedding(&self, table: &Self::Tensor, ids: &[u32]) -> Result<Self::Tensor>;
    /// The gradient of the table: every row of `d_y` added to the row of its id; `[vocab, hidden]`.
    fn embedding_backward(
        &self,
        d_y: &Self::Tensor,
        ids: &[u32],
        vocab: usize,
    ) -> Result<Self::Tensor>;

    /// Variable-length causal attention with scale `1 / sqrt(head_dim)`: `(out, lse)`, with `out` like `q` and
    /// the log-sum-exp of each row's scores as `[queries, query heads]`.
    ///
    /// Tiled over queries and keys (Dao, 2023): no score matrix is held, so memory is linear in length.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        layout: &AttentionLayout,
    ) -> Result<(Self::Tensor, Self::Tensor)>;
    /// Merges attention over other keys, `other` with its log-sum-exp `other_lse`, into `out` and `lse`: what attention over
    /// the keys of both would be (Dao et al., 2022, section 3.1). Copies `out` and `lse` first where their storage is shared.
    ///
    /// With `l = ln(e^lse + e^other_lse)`: `out = e^(lse - l) out + e^(other_lse - l) other`.
    fn merge_attention(
        &self,
        out: &mut Self::Tensor,
        lse: &mut Self::Tensor,
        other: &Self::Tensor,
        other_lse: &Self::Tensor,
    ) -> Result<()>;
    /// `(d_q, d_k, d_v)` of [`Backend::attention`], from what the forward was given and returned.
    ///
    /// Where attention was merged of that over several blocks of keys, each block gives its part of the gradients, if `out`
    /// and `lse` are the merged ones.
    #[allow(
        clippy::too_many_arguments,
        reason = "the arguments are the forward's, its results and the gradient"
    )]
    fn attention_backward(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        out: &Self::Tensor,
        lse: &Self::Tensor,
        d_out: &Self::Tensor,
        layout: &AttentionLayout,
    ) -> Result<(Self::Tensor, Self::Tensor, Self::Tensor)>;

    /// Output projection and cross-entropy in one pass that never holds the logits of more than a block of tokens:
    /// loss and gradients of `scale * sum over tokens of cross_entropy(x W^T, target)`.
    fn linear_cross_entropy(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &[u32],
        scale: f32,
    ) -> Result<LinearCrossEntropy<Self::Tensor>>;

    /// The `loss_sum` of [`Backend::linear_cross_entropy`] alone, which takes a third of its work.
    fn linear_cross_entropy_loss(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &[u32],
    ) -> Result<f64>;

    // ---- optimiser

    /// Updates `parameter` and both moments in place by one AdamW step. Copies what is shared first.
    fn adamw(
        &self,
        parameter: &mut Self::Tensor,
        gradient: &Self::Tensor,
        first_moment: &mut Self::Tensor,
        second_moment: &mut Self::Tensor,
        update: &AdamW,
    ) -> Result<()>;
}
