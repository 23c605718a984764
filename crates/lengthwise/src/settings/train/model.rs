//! `[model]`: the shape of the decoder and its context.

use std::fmt::Display;
use std::path::PathBuf;

use lengthwise_core::Tokens;
use lengthwise_train::{Family, ModelConfig, ModelError, PretrainedConfig, PretrainedError, Rope};

use super::tokenizer::{ChosenTokenizer, tokenizer};
use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// The longest sequence where none is set, in tokens, or less where a model is meant for less.
const DEFAULT_CONTEXT: Tokens = Tokens(16_384);

/// What `[model]` describes.
#[derive(Debug)]
pub struct Model {
    /// The decoder.
    pub config: ModelConfig,
    /// The longest sequence.
    pub context: Setting<Tokens>,
    /// The directory of the model to go on from.
    pub from: Option<Setting<PathBuf>>,
    /// How its text becomes ids.
    pub tokenizer: ChosenTokenizer,
}

/// The decoder, of random weights or of a model to go on from, and the longest sequence.
pub fn model(reader: &mut Reader<'_>) -> Result<Model, Failure> {
    let Some(mut from) = reader.optional::<PathBuf>("model.from")? else {
        let tokenizer = tokenizer(reader, None)?;
        let (config, context) = described(reader, &tokenizer)?;
        return Ok(Model {
            config,
            context,
            from: None,
            tokenizer,
        });
    };
    from.value = reader.path(&from, &from.value)?;
    let PretrainedConfig {
        model,
        max_position_embeddings,
    } = PretrainedConfig::read(&from.value).map_err(|error| of_pretrained(&from, &error))?;
    for (key, size) in [
        ("model.hidden", model.hidden),
        ("model.layers", model.layers),
        ("model.heads", model.heads),
        ("model.kv_heads", model.kv_heads),
        ("model.ffn", model.ffn),
    ] {
        same(reader.optional::<usize>(key)?, size)?;
    }
    same(reader.optional("model.rope_theta")?, model.rope.theta)?;
    same(reader.optional("model.norm_epsilon")?, model.norm_epsilon)?;
    same(reader.optional("model.tied_output")?, model.tied_output)?;
    same(reader.optional("model.vocab")?, model.vocab)?;
    let tokenizer = tokenizer(reader, Some(&from))?;
    let num_ids = tokenizer.encoder.vocab_size();
    from.must(
        model.vocab >= num_ids,
        format!(
            "the model knows {} ids, and {} has {num_ids}",
            model.vocab,
            tokenizer.name()
        ),
        "choose a model with a larger vocabulary, or the tokenizer that it was trained with",
    )?;
    let most = Tokens(max_position_embeddings);
    let context = reader.get("model.context", DEFAULT_CONTEXT.min(most))?;
    check_context(&context)?;
    context.must(
        context.value <= most,
        format!("the model is meant for at most max_position_embeddings = {most} tokens"),
        "lower model.context; or raise the number in the model's config.json, with a rope_scaling for it",
    )?;
    Ok(Model {
        config: model,
        context,
        from: Some(from),
        tokenizer,
    })
}

/// The failure that a model to go on from can't be.
pub fn of_pretrained(from: &Setting<PathBuf>, error: &PretrainedError) -> Failure {
    let failure = from.breaks(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Checks that what is set beside `model.from` is what the model has.
fn same<T: PartialEq + Display>(setting: Option<Setting<T>>, of_model: T) -> Result<(), Failure> {
    match setting {
        Some(setting) => {
            let rule = format!("the model of model.from has {of_model}");
            let hint = "leave it out: the model's config.json says it";
            setting.must(setting.value == of_model, rule, hint)
        }
        None => Ok(()),
    }
}

fn check_context(context: &Setting<Tokens>) -> Result<(), Failure> {
    context.must(
        (1..=u64::from(u32::MAX)).contains(&context.value.0),
        format!("the context must be 1 to {} tokens", u32::MAX),
        "it is the length of the longest sequence",
    )
}

/// The decoder that settings describe, of random weights.
fn described(
    reader: &mut Reader<'_>,
    tokenizer: &ChosenTokenizer,
) -> Result<(ModelConfig, Setting<Tokens>), Failure> {
    let vocab = vocab(reader, tokenizer)?;
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
    let context = reader.get("model.context", DEFAULT_CONTEXT)?;
    let rope_theta = reader.get("model.rope_theta", 10_000.0)?;
    let norm_epsilon = reader.get("model.norm_epsilon", 1e-5)?;
    let tied_output = reader.get("model.tied_output", true)?.value;
    let head_dim = ModelConfig::divided_head_dim(hidden.value, heads.value);
    let config = head_dim.and_then(|head_dim| {
        let config = ModelConfig {
            vocab,
            hidden: hidden.value,
            layers: layers.value,
            heads: heads.value,
            kv_heads: kv_heads.value,
            ffn: ffn.value,
            rope: Rope::plain(rope_theta.value),
            norm_epsilon: norm_epsilon.value,
            tied_output,
            head_dim,
            family: Family::LLAMA,
        };
        config.check().map(|()| config)
    });
    let sizes = [&hidden, &layers, &heads, &kv_heads, &ffn];
    let config = config.map_err(|error| {
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
    check_context(&context)?;
    Ok((config, context))
}

/// The ids that a model of random weights is to know: those of its tokenizer, or more.
fn vocab(reader: &mut Reader<'_>, tokenizer: &ChosenTokenizer) -> Result<usize, Failure> {
    /// More would not fit any device.
    const MOST: usize = 1 << 20;
    let num_ids = tokenizer.encoder.vocab_size();
    let Some(vocab) = reader.optional::<usize>("model.vocab")? else {
        return Ok(num_ids);
    };
    let rule = format!(
        "the model must know the {num_ids} ids of {}, and no more than {MOST}",
        tokenizer.name()
    );
    vocab.must(
        (num_ids..=MOST).contains(&vocab.value),
        rule,
        "leave it out: it is then what the tokenizer has",
    )?;
    Ok(vocab.value)
}

fn name(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, name)| name)
}

fn error_keys(error: &ModelError) -> Vec<&'static str> {
    match error {
        // Heads without features come of hidden.
        ModelError::Zero { key: "head_dim" } => vec!["hidden"],
        ModelError::Zero { key } | ModelError::TooLarge { key, .. } => vec![key],
        ModelError::NotAMultiple {
            key, divisor_key, ..
        } => vec![key, divisor_key],
        ModelError::OddHead { .. } => vec!["hidden", "heads"],
        _ => vec![],
    }
}
