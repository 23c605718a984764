//! One decoder layer: forward, and backward from what the forward saved.
//!
//! ```text
//! x -> norm -> q k v -> RoPE -> [exchange] -> attention -> [exchange] -> wo -> + x = middle
//! middle -> norm -> gate, up -> SwiGLU -> down -> + middle
//! ```
//!
//! Rows are the tokens of this rank, except between the exchanges, where they are all tokens of the group and
//! columns are some of the heads.

use lengthwise_comm::Communicator;
use lengthwise_core::Activity;
use lengthwise_tensor::{AttentionLayout, Backend};

use super::ModelConfig;
use super::exchange::{Shards, TensorOf};
use super::parameters::LayerParameters;
use crate::TrainError;
use crate::timeline::Timeline;

/// What a rank knows of the tokens its group works on.
#[derive(Clone, Debug)]
pub struct GroupTokens {
    /// Who has which tokens and heads.
    pub shards: Shards,
    /// The place of each of this rank's tokens in its sequence.
    pub positions: Vec<u32>,
    /// The attention that this rank computes, over all tokens of the group.
    pub attention: AttentionLayout,
}

/// What a layer's backward needs of its forward.
#[derive(Debug)]
pub struct SavedLayer<T> {
    /// `[my tokens, hidden]`: the layer's input.
    input: T,
    normed: T,
    /// `[group tokens, my heads x head_dim]`, as are `k`, `v` with their heads, and `attended`.
    q: T,
    k: T,
    v: T,
    attended: T,
    /// `[group tokens, my heads]`
    lse: T,
    /// `[my tokens, hidden]`: what attention gave, before `wo`.
    context: T,
    middle: T,
    middle_normed: T,
    /// `[my tokens, ffn]`, as are `up` and `activated`.
    gate: T,
    up: T,
    activated: T,
}

/// `(output, saved)` of a layer, `output` like `input`. Starts and ends as [`Activity::Dense`].
pub fn forward<C: Communicator>(
    config: &ModelConfig,
    group: &C,
    tokens: &GroupTokens,
    parameters: &LayerParameters<TensorOf<C>>,
    input: TensorOf<C>,
    timeline: &Timeline,
) -> Result<(TensorOf<C>, SavedLayer<TensorOf<C>>), TrainError> {
    let backend = group.backend();
    let shards = &tokens.shards;
    let rope = |mut x| {
        backend.rope(
            &mut x,
            &tokens.positions,
            config.head_dim(),
            config.rope_theta,
        )?;
        Ok::<_, TrainError>(x)
    };

    let normed = backend.rms_norm(&input, &parameters.attention_norm, config.norm_epsilon)?;
    let q = shards.queries_to_heads(group, rope(backend.linear(&normed, &parameters.wq)?)?)?;
    let k = shards.kv_to_heads(group, rope(backend.linear(&normed, &parameters.wk)?)?)?;
    let v = shards.kv_to_heads(group, backend.linear(&normed, &parameters.wv)?)?;
    timeline.turn_to(Activity::Attention);
    let (attended, lse) = backend.attention(&q, &k, &v, &tokens.attention)?;
    timeline.turn_to(Activity::Dense);
    let context = shards.queries_to_tokens(group, attended.clone())?;
    let mut middle = backend.linear(&context, &parameters.wo)?;
    backend.add_assign(&mut middle, &input)?;

    let middle_normed = backend.rms_norm(&middle, &parameters.mlp_norm, config.norm_epsilon)?;
    let gate = backend.linear(&middle_normed, &parameters.gate)?;
    let up = backend.linear(&middle_normed, &parameters.up)?;
    let activated = backend.swiglu(&gate, &up)?;
    let mut output = backend.linear(&activated, &parameters.down)?;
    backend.add_assign(&mut output, &middle)?;

    let saved = SavedLayer {
        input,
        normed,
        q,
        k,
        v,
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
    config: &ModelConfig,
    group: &C,
    tokens: &GroupTokens,
    parameters: &LayerParameters<TensorOf<C>>,
    saved: SavedLayer<TensorOf<C>>,
    d_output: TensorOf<C>,
    timeline: &Timeline,
) -> Result<(TensorOf<C>, LayerParameters<TensorOf<C>>), TrainError> {
    let backend = group.backend();
    let shards = &tokens.shards;
    let SavedLayer {
        input,
        normed,
        q,
        k,
        v,
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

    let (d_activated, d_down) = linear_backward(&d_output, &activated, &parameters.down)?;
    drop(activated);
    let (d_gate_output, d_up_output) = backend.swiglu_backward(&gate, &up, &d_activated)?;
    drop((gate, up, d_activated));
    let (mut d_middle_normed, d_gate) =
        linear_backward(&d_gate_output, &middle_normed, &parameters.gate)?;
    drop(d_gate_output);
    let (d_from_up, d_up) = linear_backward(&d_up_output, &middle_normed, &parameters.up)?;
    drop((d_up_output, middle_normed));
    backend.add_assign(&mut d_middle_normed, &d_from_up)?;
    drop(d_from_up);
    let (mut d_middle, d_mlp_norm) = backend.rms_norm_backward(
        &middle,
        &parameters.mlp_norm,
        config.norm_epsilon,
        &d_middle_normed,
    )?;
    drop((middle, d_middle_normed));
    backend.add_assign(&mut d_middle, &d_output)?;
    drop(d_output);

    let (d_context, d_wo) = linear_backward(&d_middle, &context, &parameters.wo)?;
    drop(context);
    let d_attended = shards.queries_to_heads(group, d_context)?;
    timeline.turn_to(Activity::Attention);
    let (d_q, d_k, d_v) =
        backend.attention_backward(&q, &k, &v, &attended, &lse, &d_attended, &tokens.attention)?;
    timeline.turn_to(Activity::Dense);
    drop((q, k, v, attended, lse, d_attended));
    let mut d_q = shards.queries_to_tokens(group, d_q)?;
    let mut d_k = shards.kv_to_tokens_summed(group, d_k)?;
    let d_v = shards.kv_to_tokens_summed(group, d_v)?;
    backend.rope_backward(
        &mut d_q,
        &tokens.positions,
        config.head_dim(),
        config.rope_theta,
    )?;
    backend.rope_backward(
        &mut d_k,
        &tokens.positions,
        config.head_dim(),
        config.rope_theta,
    )?;

    let (mut d_normed, d_wq) = linear_backward(&d_q, &normed, &parameters.wq)?;
    let (d_from_k, d_wk) = linear_backward(&d_k, &normed, &parameters.wk)?;
    let (d_from_v, d_wv) = linear_backward(&d_v, &normed, &parameters.wv)?;
    drop((d_q, d_k, d_v, normed));
    backend.add_assign(&mut d_normed, &d_from_k)?;
    backend.add_assign(&mut d_normed, &d_from_v)?;
    drop((d_from_k, d_from_v));
    let (mut d_input, d_attention_norm) = backend.rms_norm_backward(
        &input,
        &parameters.attention_norm,
        config.norm_epsilon,
        &d_normed,
    )?;
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
    };
    Ok((d_input, d_parameters))
}
