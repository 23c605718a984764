//! Every key of a `config.json` is honoured, known to change nothing, or refused by its name.

mod common;

use common::variants;
use lengthwise_train::{Family, PretrainedConfig, RopeScaling};
use serde_json::{Map, Value, json};

/// A config of a type with keys changed; `null` takes one away.
fn text(model_type: &str, changes: Value) -> String {
    let mut keys: Map<String, Value> = serde_json::from_value(json!({
        "model_type": model_type,
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "sliding_window": null,
    }))
    .unwrap();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            keys.remove(key);
        } else {
            keys.insert(key.clone(), value.clone());
        }
    }
    Value::from(keys).to_string()
}

fn read(model_type: &str, changes: Value) -> PretrainedConfig {
    PretrainedConfig::parse(&text(model_type, changes)).unwrap()
}

fn refusals<'a>(cases: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    let messages = cases.into_iter().map(|(model_type, changes)| {
        PretrainedConfig::parse(&text(model_type, changes.clone()))
            .map(|_| panic!("{model_type} with {changes} is read"))
            .unwrap_err()
            .to_string()
    });
    messages.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_config_of_a_published_model_is_read() {
    // That of SmolLM2-135M, but for its special tokens' names.
    let config = PretrainedConfig::parse(
        r#"{
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
            "initializer_range": 0.041666666666666664, "intermediate_size": 1536, "is_llama_config": true,
            "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 9,
            "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
            "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152,
            "_model_name_or_path": "SmolLM2", "unk_token_id": 0, "quantization_config": {"quant_method": "gguf"}
        }"#,
    )
    .unwrap();
    let model = config.model;
    assert_eq!((model.head_dim, model.heads, model.kv_heads), (64, 9, 3));
    assert_eq!((model.rope.theta, model.norm_epsilon), (100_000.0, 1e-5));
    assert_eq!(model.family, Family::LLAMA);
    assert!(model.tied_output);
}

#[test]
fn older_and_newer_forms_of_scaled_positions_say_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    });
    let older = read(
        "llama",
        json!({ "rope_theta": 5e5, "rope_scaling": scaling }),
    );
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500_000);
    let newer = read("llama", json!({ "rope_parameters": parameters }));
    assert_eq!(older, newer);
    let RopeScaling::Llama3 {
        factor,
        original_context,
        ..
    } = older.model.rope.scaling
    else {
        panic!("{older:?}");
    };
    assert_eq!((factor, original_context), (8.0, 1024.0));
    let plain = read(
        "llama",
        json!({ "rope_parameters": { "rope_type": "default" } }),
    );
    assert_eq!(plain, read("llama", json!({})));
}

#[test]
fn yarn_sharpens_attention_as_transformers_does() {
    let factor = |keys: Value| {
        let mut scaling =
            json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024 });
        scaling
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        match read("qwen2", json!({ "rope_scaling": scaling }))
            .model
            .rope
            .scaling
        {
            RopeScaling::Yarn {
                attention_factor, ..
            } => attention_factor,
            other => panic!("{other:?}"),
        }
    };
    let by_default = 0.1 * 4f64.ln() + 1.0;
    assert_eq!(factor(json!({})), by_default);
    assert_eq!(factor(json!({ "attention_factor": 0.5 })), 0.5);
    assert_eq!(factor(json!({ "mscale": 1.0 })), by_default);
    let scaled = (0.2 * 4f64.ln() + 1.0) / by_default;
    assert_eq!(factor(json!({ "mscale": 2, "mscale_all_dim": 1 })), scaled);
}

#[test]
fn windows_are_those_of_the_layers_that_have_them() {
    let windows = |model_type, changes| {
        let model = read(model_type, changes).model;
        (0..4).map(|layer| model.window(layer)).collect::<Vec<_>>()
    };
    let none = vec![None; 4];
    assert_eq!(
        windows("mistral", json!({ "sliding_window": 7 })),
        vec![Some(7); 4]
    );
    assert_eq!(windows("mistral", json!({})), none);
    // A window that is not used, as Qwen2.5 has it.
    assert_eq!(
        windows(
            "qwen2",
            json!({ "sliding_window": 7, "use_sliding_window": false })
        ),
        none
    );
    let used = json!({ "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 3 });
    assert_eq!(windows("qwen2", used), [None, None, None, Some(7)]);
    let mixed = json!({
        "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    });
    assert_eq!(windows("qwen3", mixed), [Some(7), None, Some(7), None]);
}

#[test]
fn biases_and_norms_are_those_of_the_type() {
    let has = |model_type, changes| {
        let model = read(model_type, changes).model;
        (
            model.has_qkv_biases(),
            model.has_attention_output_bias(),
            model.has_mlp_biases(),
            model.has_qk_norms(),
        )
    };
    assert_eq!(has("llama", json!({})), (false, false, false, false));
    assert_eq!(
        has("llama", json!({ "attention_bias": true })),
        (true, true, false, false)
    );
    assert_eq!(
        has("llama", json!({ "mlp_bias": true })),
        (false, false, true, false)
    );
    assert_eq!(has("qwen2", json!({})), (true, false, false, false));
    assert_eq!(has("qwen3", json!({})), (false, false, false, true));
    assert_eq!(
        has("qwen3", json!({ "attention_bias": true })),
        (true, true, false, true)
    );
}

#[test]
fn what_is_written_is_read_as_the_same_model() {
    use common::on_ranks;
    use lengthwise_core::Bytes;
    use lengthwise_train::Executor;
    for (name, config) in variants() {
        let directory = tempfile::tempdir().unwrap();
        on_ranks(1, Bytes::from_mib(64), |world| {
            common::write(
                &Executor::new(config.clone(), world, 3)?,
                directory.path(),
                256,
            )
        });
        let read = PretrainedConfig::read(directory.path()).unwrap();
        assert_eq!(read.model, config, "{name}");
        assert_eq!(read.max_position_embeddings, 256);
    }
}

#[test]
fn keys_that_would_change_the_computation_are_refused() {
    let yarn = |key: &str, value: Value| {
        let mut scaling = json!({ "rope_type": "yarn", "factor": 4.0 });
        scaling[key] = value;
        json!({ "rope_scaling": scaling })
    };
    let refusals = refusals([
        ("gemma2", json!({})),
        (
            "llama",
            json!({ "architectures": ["LlamaForSequenceClassification"] }),
        ),
        ("llama", json!({ "hidden_act": "gelu" })),
        ("llama", json!({ "attention_dropout": 0.1 })),
        ("llama", json!({ "sliding_window": 4096 })),
        ("llama", json!({ "partial_rotary_factor": 0.5 })),
        ("llama", json!({ "rope_interleaved": true })),
        ("llama", json!({ "quantization_config": { "bits": 4 } })),
        (
            "llama",
            json!({ "auto_map": { "AutoModel": "modeling.Mine" } }),
        ),
        ("llama", json!({ "residual_multiplier": 0.22 })),
        (
            "llama",
            json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } }),
        ),
        (
            "llama",
            json!({ "rope_scaling": { "type": "linear", "factor": 2.0, "low": 1 } }),
        ),
        (
            "llama",
            json!({ "rope_scaling": { "type": "linear", "rope_type": "yarn", "factor": 2.0 } }),
        ),
        (
            "llama",
            json!({ "rope_scaling": { "type": "linear", "factor": 2 }, "rope_parameters": { "rope_theta": 1e4 } }),
        ),
        (
            "llama",
            json!({ "rope_theta": 5e5, "rope_parameters": { "rope_type": "default", "rope_theta": 1e4 } }),
        ),
        ("mistral", json!({ "attention_bias": true })),
        (
            "mistral",
            json!({ "sliding_window": 8, "layer_types": (["full_attention"; 4]) }),
        ),
        ("qwen2", json!({ "mlp_bias": true })),
        ("qwen2", json!({ "use_mrope": true })),
        (
            "qwen3",
            json!({ "layer_types": ["full_attention", "linear_attention", "full_attention", "full_attention"] }),
        ),
        ("qwen2", yarn("beta_fast", json!(0.5))),
        ("qwen2", yarn("factor", json!(0.5))),
    ]);
    insta::assert_snapshot!(refusals);
}

#[test]
fn corrupt_configs_are_one_error_each() {
    let refusals = refusals([
        ("llama", json!({ "model_type": null })),
        ("llama", json!({ "vocab_size": null })),
        ("llama", json!({ "hidden_size": "64" })),
        ("llama", json!({ "hidden_size": 64.5 })),
        ("llama", json!({ "num_hidden_layers": 0 })),
        ("llama", json!({ "num_hidden_layers": -1 })),
        (
            "llama",
            json!({ "num_attention_heads": 18446744073709551615u64 }),
        ),
        ("llama", json!({ "vocab_size": 1u64 << 40 })),
        ("llama", json!({ "num_key_value_heads": 3 })),
        ("llama", json!({ "head_dim": 15 })),
        ("llama", json!({ "head_dim": null, "hidden_size": 60 })),
        ("llama", json!({ "rms_norm_eps": 0 })),
        ("llama", json!({ "tie_word_embeddings": "yes" })),
        ("llama", json!({ "rope_theta": -1 })),
        ("llama", json!({ "rope_scaling": [] })),
        ("llama", json!({ "rope_scaling": { "type": "linear" } })),
        ("llama", json!({ "architectures": "LlamaForCausalLM" })),
        ("qwen2", json!({ "num_key_value_heads": null })),
        (
            "qwen2",
            json!({ "sliding_window": 0, "use_sliding_window": true }),
        ),
        ("qwen3", json!({ "head_dim": null })),
        ("qwen3", json!({ "layer_types": ["full_attention"] })),
    ]);
    let whole = text("llama", json!({}));
    let texts = [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        whole[..whole.len() - 1].to_owned(),
        format!("{whole}{whole}"),
        whole.replacen('{', r#"{"head_dim": 8,"#, 1),
        whole.replace("300", "NaN"),
        "[".repeat(100_000),
    ];
    let more = texts.map(|text| PretrainedConfig::parse(&text).unwrap_err().to_string());
    insta::assert_snapshot!(format!("{refusals}\n{}", more.join("\n")));
}

#[test]
fn no_cut_or_changed_byte_makes_the_reader_panic() {
    let whole = text(
        "qwen3",
        json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 }, "sliding_window": 9 }),
    );
    for at in 0..whole.len() {
        let _ = PretrainedConfig::parse(&whole[..at]);
        for byte in [b'0', b'"', b'}', b'-', b'e', 0] {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] = byte;
            let _ = PretrainedConfig::parse(str::from_utf8(&bytes).unwrap());
        }
    }
}
