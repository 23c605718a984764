//! How much a step holds.

use super::architecture::{Architecture, Recomputation};
use super::logits::Logits;
use super::share::ModelShare;

/// Bytes for each parameter, over all devices: the parameter and its gradient, in single precision a copy to be
/// updated where they are not, and AdamW's two moments (ZeRO, arXiv 1910.02054).
pub(super) const STATE_BYTES_PER_PARAMETER: f64 = 16.0;

/// Bytes that each token holds over the devices of its group, at the fullest moment of a step.
///
/// That is the loss: every layer still has what its backward needs, beside the logits, their softmax and gradient.
/// For `e` bytes a number, hidden size `h`, heads `a` and keys `k` wide, FFN size `f` and vocabulary `V`:
///
/// ```text
/// attention   input e h, norm e h, queries e a, keys and values 2 e k, output e a on both sides of the exchange,
///             log-sum-exp 4 for each head, dropout mask h, queries and keys before their norm e (a + k)
/// MLP         input e h, norm e h, in front of and behind the activation 2 e f, or 3 e f if gated, dropout mask h
/// recomputed  the module's input e h; whole layers: the layer's input e h
/// output      logits e V and their gradient e V; in single precision logits, softmax and gradient 12 V
///             (single precision throughout: 12 V in all); in chunks norm e h and its gradient e h, and the rest of one chunk
/// ```
///
/// The account is that of Korthikanti et al. (arXiv 2205.05198) with flash attention instead of stored scores, and with
/// the second copy of attention's output that sequence parallelism needs. A layer that is being recomputed counts
/// where it holds more than the output did, with the blocks of a ring that are then in flight; the second copy of the
/// output is a ring step's own, before it is merged.
///
/// With layer inputs on the host, two of them are still on the device: the one in use, and the one that is copied meanwhile.
///
/// Of a pipeline's `p` stages the first holds what `p` micro-batches keep of its layers, the last what one keeps, and the
/// output ([`ModelShare`]). All of it is divided between tensor-parallel neighbours but `in_flight`, which each has.
pub(super) fn activation_bytes_per_token(
    architecture: &Architecture,
    share: ModelShare,
    in_flight: f64,
    inputs: LayerInputs,
    logits: Logits,
) -> f64 {
    let element = architecture.data_type.bytes();
    let layers = f64::from(architecture.num_layers);
    let (mlp, attention) = architecture.recomputation.shares(architecture.num_layers);
    let input = element * f64::from(architecture.hidden);
    let all_of_mlp = mlp_bytes(architecture);
    let all_of_attention = attention_bytes(architecture);
    let kept = match architecture.recomputation {
        Recomputation::Full => input,
        _ => {
            (1.0 - mlp) * all_of_mlp
                + mlp * input
                + (1.0 - attention) * all_of_attention
                + attention * input
        }
    };
    let recomputed = match architecture.recomputation {
        Recomputation::None => 0.0,
        Recomputation::Full => all_of_mlp + all_of_attention,
        Recomputation::Selective { .. } => all_of_mlp.max(all_of_attention),
    };
    let in_layer = recomputed + in_flight / share.of_layer();
    let in_output = in_layer.max(logits.bytes_per_token(architecture));
    let kept_here = |layers: f64| match inputs {
        LayerInputs::OnDevice => layers * kept,
        LayerInputs::OnHost => layers.min(2.0) * input,
    };
    let first = kept_here(layers) + in_layer;
    let last = kept_here(share.layers(architecture)) + in_output;
    share.of_layer() * first.max(last)
}

/// Where the inputs of layers are kept for the backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerInputs {
    OnDevice,
    OnHost,
}

/// Bytes of the inputs of all layers for each token that a rank holds, as one of its devices in each stage has them: what
/// is kept on the host, where it is. The first of a pipeline's stages keeps as much of several micro-batches.
pub(super) fn layer_input_bytes_per_token(architecture: &Architecture, share: ModelShare) -> f64 {
    let input = architecture.data_type.bytes() * f64::from(architecture.hidden);
    share.of_layer() * f64::from(architecture.num_layers) * input
}

fn attention_bytes(architecture: &Architecture) -> f64 {
    let element = architecture.data_type.bytes();
    let hidden = f64::from(architecture.hidden);
    let mask = if architecture.dropout { hidden } else { 0.0 };
    let before_norms = if architecture.qk_norm {
        architecture.query_width() + architecture.key_width()
    } else {
        0.0
    };
    element
        * (2.0 * hidden
            + 3.0 * architecture.query_width()
            + 2.0 * architecture.key_width()
            + before_norms)
        + 4.0 * f64::from(architecture.num_heads)
        + mask
}

fn mlp_bytes(architecture: &Architecture) -> f64 {
    let element = architecture.data_type.bytes();
    let hidden = f64::from(architecture.hidden);
    let inner = if architecture.gated { 3.0 } else { 2.0 };
    let mask = if architecture.dropout { hidden } else { 0.0 };
    element * (2.0 * hidden + inner * f64::from(architecture.ffn)) + mask
}

/// Bytes of all states of a stage that are sharded over ranks.
pub(super) fn sharded_bytes(architecture: &Architecture, share: ModelShare) -> f64 {
    STATE_BYTES_PER_PARAMETER * share.stage_parameters(architecture) * share.of_layer()
}

/// Bytes that every device holds whatever it works on: the layer that is computed, the next one, which is gathered
/// meanwhile, and the gradient of one; and a chunk of logits, where they are chunked, though layers and logits are not at
/// their fullest in the same moment.
pub(super) fn fixed_bytes(architecture: &Architecture, share: ModelShare, logits: Logits) -> f64 {
    gathered_bytes(architecture, share) + logits.fixed_bytes(architecture) * share.of_layer()
}

fn gathered_bytes(architecture: &Architecture, share: ModelShare) -> f64 {
    let largest = architecture
        .layer_parameters()
        .max(architecture.output_matrix());
    3.0 * architecture.data_type.bytes() * largest * share.of_layer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelKind;

    #[test]
    fn queries_and_keys_that_have_a_norm_are_kept_twice() {
        let qwen3 = ModelKind::Qwen3With8B.architecture(40960);
        let normed = qwen3.with_recomputation(Recomputation::None).unwrap();
        let mut plain = normed.clone();
        plain.qk_norm = false;
        let of = |model| {
            let whole = ModelShare::default();
            activation_bytes_per_token(model, whole, 0.0, LayerInputs::OnDevice, Logits::Whole)
        };
        let more = of(&normed) - of(&plain);
        assert_eq!(more, 36.0 * 2.0 * (4096.0 + 1024.0));
    }
}
