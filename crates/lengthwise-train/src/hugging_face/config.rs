//! Reads a model's `config.json`: every key is honoured, known to change nothing, or refused.

use std::collections::BTreeSet;
use std::num::NonZero;

use serde_json::Value;

use super::ConfigError;
use super::fields::Fields;
use super::rope::rope;
use crate::model::{Family, ModelConfig, SlidingWindow};

/// The content of a model's `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainedConfig {
    /// The decoder.
    pub model: ModelConfig,
    /// The tokens of the longest sequence it is meant for.
    pub max_position_embeddings: u64,
}

/// Ends of keys that have no part in the loss: ids of special tokens.
const IRRELEVANT_ENDS: [&str; 2] = ["_token_id", "_token_ids"];

/// Keys that have no part in the loss: generation, storage, tools, and initial values.
const IRRELEVANT: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_model_name_or_path",
    "_name_or_path",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    // Divides products into parts that are added: the same up to rounding, and ignored by transformers 5.
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Keys that would change what is computed, and the only value with which they do not.
const NEUTRAL: &[(&str, Neutral)] = &[
    ("attention_dropout", Neutral::Zero),
    ("attn_pdrop", Neutral::Zero),
    ("embd_pdrop", Neutral::Zero),
    ("hidden_dropout", Neutral::Zero),
    ("resid_pdrop", Neutral::Zero),
    ("add_cross_attention", Neutral::False),
    ("is_decoder", Neutral::False),
    ("is_encoder_decoder", Neutral::False),
    ("rope_interleaved", Neutral::False),
    ("tie_encoder_decoder", Neutral::False),
    ("use_mrope", Neutral::False),
    ("use_qk_norm", Neutral::False),
    ("partial_rotary_factor", Neutral::One),
    ("pruned_heads", Neutral::Empty),
    (
        "auto_map",
        Neutral::Absent("code of the model's own is not run"),
    ),
    (
        "compression_config",
        Neutral::Absent("compressed weights are not read"),
    ),
    ("quantization_config", Neutral::Dequantised),
];

enum Neutral {
    Zero,
    One,
    False,
    Empty,
    Absent(&'static str),
    /// transformers dequantises what it reads as GGUF, and still says so of what is saved then.
    Dequantised,
}

impl Neutral {
    fn rule(&self, value: &Value) -> Option<&'static str> {
        let (holds, rule) = match self {
            Neutral::Zero => (value.as_f64() == Some(0.0), "only 0 is computed"),
            Neutral::One => (value.as_f64() == Some(1.0), "only 1 is computed"),
            Neutral::False => (*value == Value::Bool(false), "only false is computed"),
            Neutral::Empty => (
                value.as_object().is_some_and(serde_json::Map::is_empty),
                "only {} is computed",
            ),
            Neutral::Absent(rule) => (false, *rule),
            Neutral::Dequantised => (
                value
                    .get("quant_method")
                    .is_some_and(|method| method == "gguf"),
                "quantised weights are not read",
            ),
        };
        (!holds).then_some(rule)
    }
}

impl PretrainedConfig {
    /// Reads the text of a `config.json`.
    ///
    /// ```
    /// use lengthwise_train::PretrainedConfig;
    ///
    /// let config = PretrainedConfig::parse(r#"{
    ///     "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    ///     "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    ///     "max_position_embeddings": 8192, "rope_theta": 100000, "tie_word_embeddings": true
    /// }"#)?;
    /// assert_eq!(config.model.head_dim, 64);
    /// # Ok::<(), lengthwise_train::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is no JSON object, lacks a key, or has one that is not computed here.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut fields: Fields =
            serde_json::from_str(text).map_err(|error| ConfigError::Syntax {
                reason: error.to_string(),
            })?;
        let Some(model_type) = fields.text("model_type")? else {
            return Err(fields.missing("model_type"));
        };
        let architecture = match model_type.as_str() {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => {
                let rule = "the types llama, mistral, qwen2 and qwen3 are computed";
                return Err(fields.bad("model_type", &model_type.into(), rule));
            }
        };
        if let Some(architectures) = fields.texts("architectures")?
            && architectures != [architecture]
        {
            let rule = format!("a {model_type} that predicts tokens is {architecture:?} alone");
            return Err(fields.bad("architectures", &architectures.into(), rule));
        }

        let vocab = fields.required_size("vocab_size")?;
        let hidden = fields.required_size("hidden_size")?;
        let ffn = fields.required_size("intermediate_size")?;
        let layers = fields.required_size("num_hidden_layers")?;
        let heads = fields.required_size("num_attention_heads")?;
        if !fields.has("num_key_value_heads") && model_type != "llama" {
            return Err(fields.missing("num_key_value_heads"));
        }
        let kv_heads = fields.size("num_key_value_heads")?.unwrap_or(heads);
        let head_dim = match fields.size("head_dim")? {
            Some(head_dim) => head_dim,
            None if model_type == "qwen3" => return Err(fields.missing("head_dim")),
            None => ModelConfig::divided_head_dim(hidden, heads)?,
        };
        let context = fields.required_size("max_position_embeddings")?;
        if let Some(activation) = fields.text("hidden_act")?
            && !matches!(activation.as_str(), "silu" | "swish")
        {
            let rule = r#"only "silu" is computed"#;
            return Err(fields.bad("hidden_act", &activation.into(), rule));
        }
        // Where keys are missing, transformers' defaults hold.
        let norm_epsilon = fields.positive("rms_norm_eps")?.unwrap_or(1e-6);
        let tied_output = fields.flag("tie_word_embeddings")?.unwrap_or(false);
        let rope = rope(&mut fields, context)?;
        let family = family(&mut fields, &model_type, layers)?;
        for (key, neutral) in NEUTRAL {
            if let Some(value) = fields.take(key)
                && let Some(rule) = neutral.rule(&value)
            {
                return Err(fields.bad(key, &value, rule));
            }
        }
        for key in IRRELEVANT {
            fields.take(key);
        }
        fields.forget(|key| IRRELEVANT_ENDS.iter().any(|end| key.ends_with(end)));
        if let Some((key, value)) = fields.first_left() {
            return Err(fields.unknown(key, value));
        }
        let model = ModelConfig {
            vocab,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn,
            rope,
            norm_epsilon,
            tied_output,
            family,
        };
        model.check()?;
        Ok(PretrainedConfig {
            model,
            max_position_embeddings: context as u64,
        })
    }
}

/// Differences from a plain LLaMA.
fn family(fields: &mut Fields, model_type: &str, layers: usize) -> Result<Family, ConfigError> {
    let attention_bias = fields.take("attention_bias");
    let mlp_bias = fields.take("mlp_bias");
    // Each type reads its own flags; the other ones must not be set.
    let flag = |fields: &Fields, key: &str, value: Option<&Value>, is_read: bool| match value {
        None | Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) if is_read => Ok(true),
        Some(value) if is_read => Err(fields.bad(key, value, "it must be true or false")),
        Some(value) => {
            let rule = format!("a {model_type} has no such biases");
            Err(fields.bad(key, value, rule))
        }
    };
    let reads_attention_bias = matches!(model_type, "llama" | "qwen3");
    let attention_bias = flag(
        fields,
        "attention_bias",
        attention_bias.as_ref(),
        reads_attention_bias,
    )?;
    let mlp_bias = flag(fields, "mlp_bias", mlp_bias.as_ref(), model_type == "llama")?;
    let window = window(fields, model_type, layers)?;
    Ok(match model_type {
        "mistral" => Family::Mistral {
            window: window.map(|window| window.tokens),
        },
        "qwen2" => Family::Qwen2 { window },
        "qwen3" => Family::Qwen3 {
            attention_bias,
            window,
        },
        _ => Family::Llama {
            attention_bias,
            mlp_bias,
        },
    })
}

/// The layers with windows, as `sliding_window` with its companions says.
fn window(
    fields: &mut Fields,
    model_type: &str,
    layers: usize,
) -> Result<Option<SlidingWindow>, ConfigError> {
    let has_window = fields.has("sliding_window");
    let size = fields.size("sliding_window")?;
    let is_used = fields.flag("use_sliding_window")?;
    let first = fields.whole("max_window_layers")?;
    let types = fields.texts("layer_types")?;
    let is_qwen = matches!(model_type, "qwen2" | "qwen3");
    let tokens = match size.map(|size| (size, u32::try_from(size).ok().and_then(NonZero::new))) {
        None => None,
        Some((_, Some(tokens))) => Some(tokens),
        Some((size, None)) => {
            let rule = format!("it must be 1 to {}", u32::MAX);
            return Err(fields.bad("sliding_window", &size.into(), rule));
        }
    };
    if let Some(types) = &types {
        if types.len() != layers {
            let rule = format!("there are num_hidden_layers = {layers}");
            return Err(fields.bad("layer_types", &types.clone().into(), rule));
        }
        let is_known = |of: &&String| matches!(of.as_str(), "full_attention" | "sliding_attention");
        if let Some(other) = types.iter().find(|of| !is_known(of)) {
            let rule = r#"only "full_attention" and "sliding_attention" are computed"#;
            return Err(fields.bad("layer_types", &other.clone().into(), rule));
        }
    }
    let slide = |index: usize| {
        types
            .as_ref()
            .map(|types| types[index] == "sliding_attention")
    };
    let sliding: BTreeSet<usize> = match model_type {
        // Whether a window is used is a switch of Qwen's; its default there is off.
        "qwen2" | "qwen3" if is_used != Some(true) || tokens.is_none() => BTreeSet::new(),
        "qwen2" | "qwen3" => {
            // transformers' default.
            let first = first.unwrap_or(28);
            let slides = |&index: &usize| slide(index).unwrap_or(index as u64 >= first);
            (0..layers).filter(slides).collect()
        }
        "mistral" if tokens.is_some() => (0..layers).collect(),
        "mistral" if !has_window => return Err(fields.missing("sliding_window")),
        "mistral" => BTreeSet::new(),
        _ => {
            if let Some(tokens) = tokens {
                let rule = "a llama attends to all tokens before";
                return Err(fields.bad("sliding_window", &tokens.get().into(), rule));
            }
            BTreeSet::new()
        }
    };
    if !is_qwen && is_used.is_some_and(|is_used| is_used == sliding.is_empty()) {
        let rule = format!("with this sliding_window, a {model_type} does the opposite");
        return Err(fields.bad("use_sliding_window", &is_used.into(), rule));
    }
    // A list of types must say the same as the other keys.
    if let Some(index) = (0..layers)
        .find(|index| slide(*index).is_some_and(|slides| slides != sliding.contains(index)))
    {
        let rule = format!("layer {index} would have another window by the other keys");
        let types = types.unwrap_or_default();
        return Err(fields.bad("layer_types", &types.into(), rule));
    }
    Ok(tokens
        .filter(|_| !sliding.is_empty())
        .map(|tokens| SlidingWindow {
            tokens,
            layers: sliding,
        }))
}
