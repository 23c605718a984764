//! Writes a model's `config.json`.

use serde_json::{Map, Value, json};

use crate::model::{Family, ModelConfig, Rope, RopeScaling, SlidingWindow};

/// The `config.json` of a model of this shape, for sequences of up to `context` tokens, whose weights are of `dtype`.
///
/// The keys are those that transformers 4 and 5 both read.
pub fn config_json(config: &ModelConfig, context: u64, dtype: &str) -> Map<String, Value> {
    let (model_type, architecture) = match config.family {
        Family::Llama { .. } => ("llama", "LlamaForCausalLM"),
        Family::Mistral { .. } => ("mistral", "MistralForCausalLM"),
        Family::Qwen2 { .. } => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 { .. } => ("qwen3", "Qwen3ForCausalLM"),
    };
    let mut keys = object(json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "max_position_embeddings": context,
        "rope_theta": config.rope.theta,
        "rope_scaling": rope_scaling(&config.rope),
        "tie_word_embeddings": config.tied_output,
        "torch_dtype": dtype,
    }));
    keys.extend(match &config.family {
        Family::Llama {
            attention_bias,
            mlp_bias,
        } => object(json!({ "attention_bias": attention_bias, "mlp_bias": mlp_bias })),
        Family::Mistral { window } => object(json!({ "sliding_window": window })),
        Family::Qwen2 { window } => qwen_window(window.as_ref(), config.layers),
        Family::Qwen3 {
            attention_bias,
            window,
        } => {
            let mut keys = qwen_window(window.as_ref(), config.layers);
            keys.insert("attention_bias".to_owned(), (*attention_bias).into());
            keys
        }
    });
    keys
}

fn qwen_window(window: Option<&SlidingWindow>, layers: usize) -> Map<String, Value> {
    let slides = |layer: &usize| window.is_some_and(|window| window.layers.contains(layer));
    let kind = |layer| {
        if slides(&layer) {
            "sliding_attention"
        } else {
            "full_attention"
        }
    };
    let first = (0..layers).find(slides).unwrap_or(layers);
    object(json!({
        "use_sliding_window": window.is_some(),
        "sliding_window": window.map(|window| window.tokens),
        "max_window_layers": first,
        "layer_types": (0..layers).map(kind).collect::<Vec<_>>(),
    }))
}

fn rope_scaling(rope: &Rope) -> Value {
    match rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context as u64,
        }),
        RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            original_context,
            truncate,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "attention_factor": attention_factor,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "original_max_position_embeddings": original_context as u64,
            "truncate": truncate,
        }),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(keys) => keys,
        _ => unreachable!("an object was written here"),
    }
}
