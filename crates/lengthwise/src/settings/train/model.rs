//! `[model]`: the shape of the decoder and its context.

use lengthwise_core::Tokens;
use lengthwise_data::ByteTokenizer;
use lengthwise_train::{ModelConfig, ModelError};

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// The decoder, and the longest sequence.
pub fn model(reader: &mut Reader<'_>) -> Result<(ModelConfig, Setting<Tokens>), Failure> {
    let hidden = reader.get("model.hidden", 128usize)?;
    let layers = reader.get("model.layers", 4)?;
    let heads = reader.get("model.heads", 8)?;
    let kv_heads = reader.get("model.kv_heads", heads.value)?;
    // Two thirds of the customary 4, since SwiGLU has three matrices instead of two.
    let ffn = reader.get(
        "model.ffn",
        hidden
            .value
            .saturating_mul(8)
            .div_ceil(24)
            .saturating_mul(8),
    )?;
    let context = reader.get("model.context", Tokens(16_384))?;
    let rope_theta = reader.get("model.rope_theta", 10_000.0)?;
    let norm_epsilon = reader.get("model.norm_epsilon", 1e-5)?;
    let tied_output = reader.get("model.tied_output", true)?.value;
    let config = ModelConfig {
        vocab: ByteTokenizer::VOCAB,
        hidden: hidden.value,
        layers: layers.value,
        heads: heads.value,
        kv_heads: kv_heads.value,
        ffn: ffn.value,
        rope_theta: rope_theta.value as f32,
        norm_epsilon: norm_epsilon.value as f32,
        tied_output,
    };
    let sizes = [&hidden, &layers, &heads, &kv_heads, &ffn];
    config.check().map_err(|error| {
        let hint = match &error {
            ModelError::NotAMultiple { .. } => "each head takes the same number of features, each key/value head serves the same number of heads",
            ModelError::OddHead { .. } => "choose hidden and heads so that their quotient is even",
            ModelError::TooLarge { .. } => "no size of a model may exceed 1048576",
            _ => "the smallest model has 1 layer, 1 head and hidden = 2",
        };
        // A default is not what the user has to change.
        let named = error_keys(&error);
        let named = || sizes.iter().filter(|size| named.contains(&name(size.key)));
        let culprit = named().rev().find(|size| size.is_given()).or_else(|| named().next());
        match (culprit, &error) {
            (Some(size), _) => size.breaks(&error).hint(hint),
            (None, ModelError::NotPositive { key: "norm_epsilon", .. }) => norm_epsilon.breaks(&error),
            (None, _) => rope_theta.breaks(&error),
        }
    })?;
    let countable = (1..=u64::from(u32::MAX)).contains(&context.value.0);
    context.must(
        countable,
        format!("the context must be 1 to {} tokens", u32::MAX),
        "it is the length of the longest sequence",
    )?;
    Ok((config, context))
}

fn name(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, name)| name)
}

fn error_keys(error: &ModelError) -> Vec<&'static str> {
    match error {
        ModelError::Zero { key } | ModelError::TooLarge { key, .. } => vec![key],
        ModelError::NotAMultiple {
            key, divisor_key, ..
        } => vec![key, divisor_key],
        ModelError::OddHead { .. } => vec!["hidden", "heads"],
        _ => vec![],
    }
}
