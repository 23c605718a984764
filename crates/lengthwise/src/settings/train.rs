//! The settings of `lengthwise train`: keys, defaults and rules.

use std::path::PathBuf;
use std::time::Duration;

use lengthwise_core::{Bytes, Cluster, Degree, Device, Speed, Tokens};
use lengthwise_plan::{PlannerKind, PlannerOptions};
use lengthwise_train::data::{BatchSize, ByteTokenizer, CutRule, Overlong};
use lengthwise_train::{ModelConfig, ModelError, OptimizerConfig, TrainOptions, memory};

use super::overrides::Overrides;
use super::place::Setting;
use super::reader::{Reader, SettingsFile};
use super::value::ClipNorm;
use crate::failure::Failure;

/// Every setting, as `section.key`.
pub const KEYS: [&str; 35] = [
    "model.hidden",
    "model.layers",
    "model.heads",
    "model.kv_heads",
    "model.ffn",
    "model.context",
    "model.rope_theta",
    "model.norm_epsilon",
    "model.tied_output",
    "data.paths",
    "data.extensions",
    "data.overlong",
    "data.min_tokens",
    "data.seed",
    "batch.tokens",
    "batch.sequences",
    "cluster.ranks",
    "cluster.devices_per_node",
    "cluster.device_memory_mib",
    "plan.planner",
    "plan.degrees",
    "plan.ahead",
    "plan.time_budget_ms",
    "train.steps",
    "train.learning_rate",
    "train.min_learning_rate",
    "train.warmup_steps",
    "train.weight_decay",
    "train.betas",
    "train.epsilon",
    "train.clip_norm",
    "train.seed",
    "train.recompute",
    "train.metrics",
    "train.checkpoint",
];

/// One thread a rank: more would only fight for the cores of one machine.
const MOST_RANKS: u32 = 1024;

/// A run, ready to begin.
#[derive(Debug)]
pub struct TrainSettings {
    /// The run but its data and planner.
    pub options: TrainOptions,
    /// Who plans.
    pub planner: PlannerKind,
    /// How it plans.
    pub planner_options: PlannerOptions,
    /// The corpus.
    pub paths: Setting<Vec<PathBuf>>,
    /// Which files below a directory belong to it.
    pub extensions: Vec<String>,
    /// What documents become.
    pub cut: CutRule,
    /// When a batch is full.
    pub batch_size: BatchSize,
    /// Of the order of sequences.
    pub data_seed: u64,
    /// Where each step is recorded.
    pub metrics: Option<Setting<PathBuf>>,
    /// Every setting with its place.
    pub shown: String,
}

impl TrainSettings {
    /// Reads the settings of a file and of this run, and checks them against each other.
    pub fn read(file: &SettingsFile, overrides: &Overrides) -> Result<Self, Failure> {
        let mut reader = Reader::new(file, overrides, &KEYS)?;
        let (model, context) = model(&mut reader)?;
        let (mut paths, extensions, cut, data_seed) = data(&mut reader, &context)?;
        let batch_size = batch(&mut reader)?;
        let cluster = cluster(&mut reader, &model)?;
        let (planner, planner_options, degrees, plan_ahead) = plan(&mut reader, &model, &cluster)?;
        let (steps, optimizer) = optimizer(&mut reader)?;
        let seed = reader.get("train.seed", 0)?.value;
        let recompute = reader.get("train.recompute", true)?.value;
        let mut metrics = reader.optional::<PathBuf>("train.metrics")?;

        let checkpoint = reader.optional::<PathBuf>("train.checkpoint")?;
        let checkpoint = checkpoint
            .map(|checkpoint| reader.path(&checkpoint, &checkpoint.value))
            .transpose()?;
        let expanded: Result<_, Failure> = paths
            .value
            .iter()
            .map(|path| reader.path(&paths, path))
            .collect();
        paths.value = expanded?;
        if let Some(metrics) = &mut metrics {
            metrics.value = reader.path(metrics, &metrics.value)?;
        }
        Ok(TrainSettings {
            options: TrainOptions {
                model,
                optimizer,
                cluster,
                context: context.value,
                steps,
                seed,
                recompute,
                degrees,
                plan_ahead,
                checkpoint,
                injected_failure: None,
            },
            planner,
            planner_options,
            paths,
            extensions,
            cut,
            batch_size,
            data_seed,
            metrics,
            shown: reader.show(),
        })
    }
}

fn model(reader: &mut Reader<'_>) -> Result<(ModelConfig, Setting<Tokens>), Failure> {
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

type Data = (Setting<Vec<PathBuf>>, Vec<String>, CutRule, u64);

fn data(reader: &mut Reader<'_>, context: &Setting<Tokens>) -> Result<Data, Failure> {
    let paths = reader.required::<Vec<PathBuf>>("data.paths")?;
    paths.must(
        !paths.value.is_empty(),
        "there must be a path",
        "name text files, JSONL files, or directories of them",
    )?;
    let extensions = reader.get(
        "data.extensions",
        ["txt", "md", "jsonl"].map(str::to_owned).to_vec(),
    )?;
    let named = extensions
        .value
        .iter()
        .all(|extension| !extension.trim_matches('.').is_empty());
    extensions.must(
        named && !extensions.value.is_empty(),
        "there must be an extension, and none may be empty",
        "a file without extension can be named in data.paths itself",
    )?;
    let overlong = reader.get("data.overlong", Overlong::default())?;
    let min_tokens = reader.get("data.min_tokens", Tokens(1))?;
    min_tokens.must(
        min_tokens.value <= context.value,
        format!(
            "no sequence is longer than model.context = {}",
            context.value
        ),
        "raise model.context, or lower data.min_tokens",
    )?;
    let rule = CutRule {
        context: context.value,
        overlong: overlong.value,
        min_tokens: min_tokens.value,
    };
    let seed = reader.get("data.seed", 0)?.value;
    Ok((paths, extensions.value, rule, seed))
}

fn batch(reader: &mut Reader<'_>) -> Result<BatchSize, Failure> {
    const HINT: &str = "give one of batch.tokens and batch.sequences, 1 or more";
    let tokens = reader.optional::<Tokens>("batch.tokens")?;
    let sequences = reader.optional::<usize>("batch.sequences")?;
    if let (Some(tokens), Some(sequences)) = (&tokens, &sequences)
        && tokens.place.layer() == sequences.place.layer()
    {
        let rule = format!("batch.tokens = {} is given too", tokens.written);
        return Err(sequences.breaks(rule).hint(HINT));
    }
    // The one that was given closer to the command line counts.
    let sequences = sequences.filter(|sequences| {
        tokens
            .as_ref()
            .is_none_or(|tokens| sequences.place.layer() > tokens.place.layer())
    });
    if let Some(sequences) = sequences {
        sequences.must(sequences.value > 0, "a batch has at least 1 sequence", HINT)?;
        return Ok(BatchSize::Sequences(sequences.value));
    }
    let tokens = match tokens {
        Some(tokens) => tokens,
        None => reader.get("batch.tokens", Tokens(65_536))?,
    };
    tokens.must(
        tokens.value > Tokens(0),
        "a batch has at least 1 token",
        HINT,
    )?;
    Ok(BatchSize::Tokens(tokens.value))
}

fn cluster(reader: &mut Reader<'_>, model: &ModelConfig) -> Result<Cluster, Failure> {
    let ranks = reader.get("cluster.ranks", 8)?;
    ranks.must(
        (1..=MOST_RANKS).contains(&ranks.value),
        format!("there must be 1 to {MOST_RANKS} ranks"),
        "each rank is a thread of this process, with a device of its own",
    )?;
    let devices_per_node = reader.get("cluster.devices_per_node", ranks.value)?;
    devices_per_node.must(
        devices_per_node.value > 0,
        "a node has at least 1 device",
        "leave it out to have all devices on one node",
    )?;
    let memory = reader.get("cluster.device_memory_mib", 1024)?;
    memory.must(
        memory.value > 0,
        "a device has at least 1 MiB",
        "it is the memory of each device, in MiB",
    )?;
    let bytes = Bytes::from_mib(memory.value);
    let fixed = memory::fixed_bytes(model, ranks.value as usize);
    let fixed = Bytes::from_f64_ceil(fixed).unwrap_or(Bytes(u64::MAX));
    memory.must(
        fixed < bytes,
        format!("the model's own share of each of {} devices is {fixed}", ranks.value),
        &format!(
            "give each device at least {} MiB, and more for the activations; or use more ranks or a smaller model",
            fixed.0.div_ceil(1 << 20) + 1
        ),
    )?;
    Cluster::with_num_devices(
        ranks.value,
        devices_per_node.value,
        Device::new(bytes, Speed::NOMINAL),
    )
    .map_err(|error| ranks.breaks(error))
}

type Plan = (PlannerKind, PlannerOptions, Option<Vec<Degree>>, usize);

fn plan(reader: &mut Reader<'_>, model: &ModelConfig, cluster: &Cluster) -> Result<Plan, Failure> {
    let planner = reader.get("plan.planner", PlannerKind::default());
    let planner = planner.map_err(|failure| {
        failure.hint(format!(
            "the planners are {}",
            PlannerKind::NAMES.join(", ")
        ))
    })?;
    let degrees = reader.optional::<Vec<Degree>>("plan.degrees")?;
    let possible =
        |degree: Degree| degree.as_usize() <= model.heads && degree.get() <= cluster.num_devices();
    let limits = format!(
        "model.heads = {} and cluster.ranks = {}",
        model.heads,
        cluster.num_devices()
    );
    if let Some(degrees) = &degrees {
        let above = degrees
            .value
            .iter()
            .find(|degree| degree.as_usize() > model.heads);
        degrees.must(
            above.is_none(),
            format!("a degree is at most model.heads = {}", model.heads),
            "each rank of a group attends with at least one head",
        )?;
        degrees.must(
            degrees.value.iter().any(|&degree| possible(degree)),
            format!("no degree is within {limits}"),
            "leave plan.degrees out to allow all that are possible",
        )?;
    }
    if let PlannerKind::Static(Some(degree)) = planner.value {
        planner.must(
            possible(degree),
            format!("degree {degree} is not within {limits}"),
            "static without a degree lets the longest sequence of each batch decide",
        )?;
        let allowed = degrees
            .as_ref()
            .is_none_or(|degrees| degrees.value.contains(&degree));
        planner.must(
            allowed,
            format!("degree {degree} is not in plan.degrees"),
            "add it there, or leave plan.degrees out",
        )?;
    }
    let ahead = reader.get("plan.ahead", 4)?;
    ahead.must(
        (2..=1024).contains(&ahead.value),
        "plans must be 2 to 1024 steps ahead",
        "each step ahead keeps a batch in memory",
    )?;
    let time_budget = reader.optional::<u64>("plan.time_budget_ms")?;
    let options = match time_budget {
        Some(budget) => {
            budget.must(
                budget.value > 0,
                "planning takes at least 1 ms",
                "leave it out to plan as long as it pays, the same way on every machine",
            )?;
            PlannerOptions::default().with_time_budget(Duration::from_millis(budget.value))
        }
        None => PlannerOptions::default(),
    };
    Ok((
        planner.value,
        options,
        degrees.map(|degrees| degrees.value),
        ahead.value,
    ))
}

fn optimizer(reader: &mut Reader<'_>) -> Result<(u64, OptimizerConfig), Failure> {
    let steps = reader.get("train.steps", 100u64)?;
    steps.must(
        steps.value > 0,
        "there must be at least 1 step",
        "each step trains on one global batch",
    )?;
    let learning_rate = reader.get("train.learning_rate", 1e-3)?;
    learning_rate.must(
        learning_rate.value > 0.0,
        "a learning rate must be above 0",
        "1e-3 suits small models, 3e-4 larger ones",
    )?;
    let min_learning_rate = reader.get("train.min_learning_rate", learning_rate.value / 10.0)?;
    min_learning_rate.must(
        (0.0..=learning_rate.value).contains(&min_learning_rate.value),
        format!(
            "it must be 0 to train.learning_rate = {}",
            learning_rate.written
        ),
        "the learning rate falls from train.learning_rate to it",
    )?;
    let warmup_steps = reader.get("train.warmup_steps", steps.value.div_ceil(10).min(1000))?;
    warmup_steps.must(
        warmup_steps.value <= steps.value,
        format!("the warm-up can't outlast train.steps = {}", steps.value),
        "leave it out to warm up over a tenth of the steps",
    )?;
    let weight_decay = reader.get("train.weight_decay", 0.1)?;
    weight_decay.must(
        weight_decay.value >= 0.0,
        "it must be 0 or more",
        "0 switches it off",
    )?;
    let betas = reader.get("train.betas", vec![0.9, 0.95])?;
    let &[beta1, beta2] = betas.value.as_slice() else {
        return Err(betas
            .breaks("there must be two numbers")
            .hint("like [0.9, 0.95]"));
    };
    let decays = [beta1, beta2].iter().all(|beta| (0.0..1.0).contains(beta));
    betas.must(
        decays,
        "both must be 0 or more and below 1",
        "like [0.9, 0.95]",
    )?;
    let epsilon = reader.get("train.epsilon", 1e-8)?;
    epsilon.must(
        epsilon.value > 0.0,
        "it must be above 0",
        "1e-8 is customary",
    )?;
    let clip_norm = reader.get("train.clip_norm", ClipNorm(Some(1.0)))?;
    clip_norm.must(
        clip_norm.value.0.is_none_or(|norm| norm > 0.0),
        "it must be above 0",
        r#"write "none" to leave gradients as they are"#,
    )?;
    let config = OptimizerConfig {
        learning_rate: learning_rate.value,
        min_learning_rate: min_learning_rate.value,
        warmup_steps: warmup_steps.value,
        beta1,
        beta2,
        epsilon: epsilon.value,
        weight_decay: weight_decay.value,
        clip_norm: clip_norm.value.0,
    };
    Ok((steps.value, config))
}
