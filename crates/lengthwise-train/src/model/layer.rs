//! One decoder layer: forward, and backward from what the forward saved.
//!
//! ```text
//! x -> norm -> q k v -> (norms of heads) -> RoPE -> [exchange] -> attention -> [exchange] -> wo -> + x = middle
//! middle -> norm -> gate, up -> SwiGLU -> down -> + middle
//! ```
//!
//! Rows are the tokens of this rank, except between the exchanges, where they are all tokens of the group, or of its place in
//! a ring, and columns are some of the heads.

use lengthwise_comm::Communicator;
use lengthwise_core::Activity;
use lengthwise_tensor::{AttentionLayout, Backend, Rotation, Tensor};

use super::ModelConfig;
use super::exchange::{Shards, TensorOf};
use super::parameters::LayerParameters;
use super::ring::{self, Attended, KeyValues};
use crate::TrainError;
use crate::timeline::Timeline;

/// The tokens that a rank's group works on, as the rank knows them.
#[derive(Clone, Debug)]
pub struct GroupTokens {
    /// The tokens and heads of each rank.
    pub shards: Shards,
    /// The place of each of this rank's tokens in its sequence.
    pub positions: Vec<u32>,
    /// The rotations of heads at these places.
    pub rotation: Rotation,
    /// The attention that this rank computes, to the tokens of each place of the ring, in layers without a window.
    pub attention: Vec<Vec<AttentionLayout>>,
    /// The attention in layers with a window, where the model has some.
    pub windowed: Option<Vec<Vec<AttentionLayout>>>,
}

impl GroupTokens {
    /// The attention of a layer.
    fn attention(&self, config: &ModelConfig, layer: usize) -> &[Vec<AttentionLayout>] {
        let windowed = self.windowed.as_ref();
        windowed
            .filter(|_| config.window(layer).is_some())
            .unwrap_or(&self.attention)
    }
}

/// Tensors of a layer's forward that its backward needs.
#[derive(Debug)]
pub struct SavedLayer<T> {
    /// `[my tokens, hidden]`: the layer's input.
    input: T,
    normed: T,
    /// `[my tokens, all heads x head_dim]`: queries and keys before the norms of heads.
    unnormed: Option<[T; 2]>,
    /// `[tokens of the place, my heads x head_dim]`, as are keys and values with their heads, and `attended`.
    q: T,
    kv: KeyValues<T>,
    attended: T,
    /// `[tokens of the place, my heads]`
    lse: T,
    /// `[my tokens, all query heads x head_dim]`: what attention gave, before `wo`.
    context: T,
    /// `[my tokens, hidden]`
    middle: T,
    middle_normed: T,
    /// `[my tokens, ffn]`, as are `up` and `activated`.
    gate: T,
    up: T,
    activated: T,
}

/// Everything that a group's rank computes a layer with.
#[derive(Clone, Copy)]
pub struct Layer<'a, C> {
    /// The shape of the model.
    pub config: &'a ModelConfig,
    /// The ranks that exchange tokens for heads.
    pub group: &'a C,
    /// The ranks with the same heads at each place of the ring, where there is one.
    pub ring: Option<&'a C>,
    /// The tokens.
    pub tokens: &'a GroupTokens,
    /// Which layer it is, counted from 0.
    pub index: usize,
    /// Where the rank says what it turns to.
    pub timeline: &'a Timeline,
}

/// `(output, saved)` of a layer, `output` like `input`. Starts and ends as [`Activity::Dense`].
pub fn forward<C: Communicator>(
    layer: Layer<'_, C>,
    parameters: &LayerParameters<TensorOf<C>>,
    input: TensorOf<C>,
) -> Result<(TensorOf<C>, SavedLayer<TensorOf<C>>), TrainError> {
    let Layer {
        config,
        group,
        ring,
        tokens,
        index,
        timeline,
    } = layer;
    let attention = tokens.attention(config, index);
    let (backend, epsilon) = (group.backend(), config.norm_epsilon as f32);
    let shards = &tokens.shards;
    let linear = |x: &_, weight: &_, bias: Option<&_>| {
        let mut y = backend.linear(x, weight)?;
        if let Some(bias) = bias {
            backend.add_bias(&mut y, bias)?;
        }
        Ok::<_, TrainError>(y)
    };
    let rope = |mut x| {
        backend.rope(&mut x, &tokens.positions, &tokens.rotation)?;
        Ok::<_, TrainError>(x)
    };
    let [q_bias, k_bias, v_bias] = each(parameters.qkv_biases.as_ref());
    let [gate_bias, up_bias, down_bias] = each(parameters.mlp_biases.as_ref());

    let normed = backend.rms_norm(&input, &parameters.attention_norm, epsilon)?;
    let mut q = linear(&normed, &parameters.wq, q_bias)?;
    let mut k = linear(&normed, &parameters.wk, k_bias)?;
    let mut unnormed = None;
    if let Some([q_norm, k_norm]) = &parameters.qk_norms {
        let norm = |x: &_, weight: &_| {
            let heads = by_head(backend, x, config.head_dim);
            let y = backend.rms_norm(&heads, weight, epsilon)?;
            Ok::<_, TrainError>(shaped_like(backend, &y, x))
        };
        let normed = [norm(&q, q_norm)?, norm(&k, k_norm)?];
        unnormed = Some([q, k]);
        [q, k] = normed;
    }
    let q = shards.queries_to_heads(group, rope(q)?)?;
    let k = shards.kv_to_heads(group, rope(k)?)?;
    let v = shards.kv_to_heads(group, linear(&normed, &parameters.wv, v_bias)?)?;
    timeline.turn_to(Activity::Attention);
    let kv = KeyValues { k, v };
    let (attended, lse) = ring::forward(backend, ring, attention, &q, &kv)?;
    timeline.turn_to(Activity::Dense);
    let context = shards.queries_to_tokens(group, attended.clone())?;
    let mut middle = linear(&context, &parameters.wo, parameters.wo_bias.as_ref())?;
    backend.add_assign(&mut middle, &input)?;

    let middle_normed = backend.rms_norm(&middle, &parameters.mlp_norm, epsilon)?;
    let gate = linear(&middle_normed, &parameters.gate, gate_bias)?;
    let up = linear(&middle_normed, &parameters.up, up_bias)?;
    let activated = backend.swiglu(&gate, &up)?;
    let mut output = linear(&activated, &parameters.down, down_bias)?;
    backend.add_assign(&mut output, &middle)?;

    let saved = SavedLayer {
        input,
        normed,
        unnormed,
        q,
        kv,
        attended,
        lse,
        context,
        middle,
        middle_normed,
        gate,
        up,
        activated,
    };
    Ok((output, saved))
}

/// `(d_input, d_parameters)` of a layer. What was saved is dropped as soon as it has been used.
/// Starts and ends as [`Activity::Dense`].
pub fn backward<C: Communicator>(
    layer: Layer<'_, C>,
    parameters: &LayerParameters<TensorOf<C>>,
    saved: SavedLayer<TensorOf<C>>,
    d_output: TensorOf<C>,
) -> Result<(TensorOf<C>, LayerParameters<TensorOf<C>>), TrainError> {
    let Layer {
        config,
        group,
        ring,
        tokens,
        index,
        timeline,
    } = layer;
    let attention = tokens.attention(config, index);
    let (backend, epsilon) = (group.backend(), config.norm_epsilon as f32);
    let shards = &tokens.shards;
    let SavedLayer {
        input,
        normed,
        unnormed,
        q,
        kv,
        attended,
        lse,
        context,
        middle,
        middle_normed,
        gate,
        up,
        activated,
    } = saved;
    let linear_backward = |d_y: &_, x: &_, weight: &_| {
        let d_weight = backend.linear_backward_weight(d_y, x)?;
        Ok::<_, TrainError>((backend.linear_backward_input(d_y, weight)?, d_weight))
    };

    // The gradients of three biases, where there are any, from those of what they were added to.
    let bias_gradients = |are_there: bool, d_ys: [&_; 3]| {
        let gradients = are_there.then(|| -> Result<_, TrainError> {
            let [a, b, c] = d_ys;
            Ok([
                backend.bias_backward(a)?,
                backend.bias_backward(b)?,
                backend.bias_backward(c)?,
            ])
        });
        gradients.transpose()
    };

    let (d_activated, d_down) = linear_backward(&d_output, &activated, &parameters.down)?;
    drop(activated);
    let (d_gate_output, d_up_output) = backend.swiglu_backward(&gate, &up, &d_activated)?;
    drop((gate, up, d_activated));
    let d_mlp_biases = bias_gradients(
        parameters.mlp_biases.is_some(),
        [&d_gate_output, &d_up_output, &d_output],
    )?;
    let (mut d_middle_normed, d_gate) =
        linear_backward(&d_gate_output, &middle_normed, &parameters.gate)?;
    drop(d_gate_output);
    let (d_from_up, d_up) = linear_backward(&d_up_output, &middle_normed, &parameters.up)?;
    drop((d_up_output, middle_normed));
    backend.add_assign(&mut d_middle_normed, &d_from_up)?;
    drop(d_from_up);
    let (mut d_middle, d_mlp_norm) =
        backend.rms_norm_backward(&middle, &parameters.mlp_norm, epsilon, &d_middle_normed)?;
    drop((middle, d_middle_normed));
    backend.add_assign(&mut d_middle, &d_output)?;
    drop(d_output);

    let d_wo_bias = parameters.wo_bias.as_ref();
    let d_wo_bias = d_wo_bias.map(|_| backend.bias_backward(&d_middle));
    let d_wo_bias = d_wo_bias.transpose()?;
    let (d_context, d_wo) = linear_backward(&d_middle, &context, &parameters.wo)?;
    drop(context);
    let d_attended = shards.queries_to_heads(group, d_context)?;
    timeline.turn_to(Activity::Attention);
    let results = Attended {
        out: &attended,
        lse: &lse,
        d_out: &d_attended,
    };
    let (d_q, d_kv) = ring::backward(backend, ring, attention, &q, kv, results)?;
    timeline.turn_to(Activity::Dense);
    drop((q, attended, lse, d_attended));
    let mut d_q = shards.queries_to_tokens(group, d_q)?;
    let mut d_k = shards.kv_to_tokens_summed(group, d_kv.k)?;
    let d_v = shards.kv_to_tokens_summed(group, d_kv.v)?;
    backend.rope_backward(&mut d_q, &tokens.positions, &tokens.rotation)?;
    backend.rope_backward(&mut d_k, &tokens.positions, &tokens.rotation)?;
    let mut d_qk_norms = None;
    if let (Some([q_norm, k_norm]), Some([q, k])) = (&parameters.qk_norms, unnormed) {
        let norm_backward = |x: &_, weight: &_, d_y: &_| {
            let [x, heads] = [x, d_y].map(|x| by_head(backend, x, config.head_dim));
            let (d_x, d_weight) = backend.rms_norm_backward(&x, weight, epsilon, &heads)?;
            Ok::<_, TrainError>((shaped_like(backend, &d_x, d_y), d_weight))
        };
        let (d_q_norm, d_k_norm);
        (d_q, d_q_norm) = norm_backward(&q, q_norm, &d_q)?;
        (d_k, d_k_norm) = norm_backward(&k, k_norm, &d_k)?;
        d_qk_norms = Some([d_q_norm, d_k_norm]);
    }
    let d_qkv_biases = bias_gradients(parameters.qkv_biases.is_some(), [&d_q, &d_k, &d_v])?;

    let (mut d_normed, d_wq) = linear_backward(&d_q, &normed, &parameters.wq)?;
    let (d_from_k, d_wk) = linear_backward(&d_k, &normed, &parameters.wk)?;
    let (d_from_v, d_wv) = linear_backward(&d_v, &normed, &parameters.wv)?;
    drop((d_q, d_k, d_v, normed));
    backend.add_assign(&mut d_normed, &d_from_k)?;
    backend.add_assign(&mut d_normed, &d_from_v)?;
    drop((d_from_k, d_from_v));
    let (mut d_input, d_attention_norm) =
        backend.rms_norm_backward(&input, &parameters.attention_norm, epsilon, &d_normed)?;
    backend.add_assign(&mut d_input, &d_middle)?;

    let d_parameters = LayerParameters {
        wq: d_wq,
        wk: d_wk,
        wv: d_wv,
        wo: d_wo,
        gate: d_gate,
        up: d_up,
        down: d_down,
        attention_norm: d_attention_norm,
        mlp_norm: d_mlp_norm,
        qk_norms: d_qk_norms,
        qkv_biases: d_qkv_biases,
        wo_bias: d_wo_bias,
        mlp_biases: d_mlp_biases,
    };
    Ok((d_input, d_parameters))
}

/// Each of three, or thrice nothing.
fn each<T>(three: Option<&[T; 3]>) -> [Option<&T>; 3] {
    three.map_or([None; 3], |three| three.each_ref().map(Some))
}

/// `[tokens, heads x head_dim]` as `[tokens x heads, head_dim]`, sharing the storage.
fn by_head<B: Backend>(backend: &B, x: &B::Tensor, head_dim: usize) -> B::Tensor {
    backend.view(x, 0, x.num_elements() / head_dim, head_dim)
}

/// The elements of `x` in the shape of `other`, sharing the storage.
fn shaped_like<B: Backend>(backend: &B, x: &B::Tensor, other: &B::Tensor) -> B::Tensor {
    backend.view(x, 0, other.rows(), other.cols())
}
