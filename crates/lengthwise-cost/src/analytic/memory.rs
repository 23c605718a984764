//! How much a step holds.

use super::architecture::{Architecture, DataType, Recomputation};

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
///             (single precision throughout: 12 V in all)
/// ```
///
/// The account is that of Korthikanti et al. (arXiv 2205.05198) with flash attention instead of stored scores, and with
/// the second copy of attention's output that sequence parallelism needs. A layer that is being recomputed counts
/// where it holds more than the output did.
pub(super) fn activation_bytes_per_token(architecture: &Architecture) -> f64 {
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
    layers * kept + recomputed.max(output_bytes(architecture))
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

fn output_bytes(architecture: &Architecture) -> f64 {
    let of_each = match architecture.data_type {
        DataType::Bf16 => 16.0,
        DataType::Fp32 => 12.0,
    };
    of_each * f64::from(architecture.vocabulary)
}

/// Bytes of all states that are sharded over the cluster's devices.
pub(super) fn sharded_bytes(architecture: &Architecture) -> f64 {
    STATE_BYTES_PER_PARAMETER * architecture.num_parameters()
}

/// Bytes that every device holds whatever it works on: the layer that is computed, the next one, which is gathered
/// meanwhile, and the gradient of one.
pub(super) fn gathered_bytes(architecture: &Architecture) -> f64 {
    let largest = architecture
        .layer_parameters()
        .max(architecture.output_matrix());
    3.0 * architecture.data_type.bytes() * largest
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
        let more = activation_bytes_per_token(&normed) - activation_bytes_per_token(&plain);
        assert_eq!(more, 36.0 * 2.0 * (4096.0 + 1024.0));
    }
}
