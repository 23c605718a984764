//! The settings of `lengthwise train`: keys, defaults and rules.

mod checkpoint;
mod cluster;
mod corpus;
mod documents;
mod model;
mod optimizer;
mod schedule;
mod sources;
mod strategies;
mod tokenizer;
mod trace;
mod validation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lengthwise_cost::RefinementRule;
use lengthwise_data::{BatchSize, TokenDocuments};
use lengthwise_outputs::Outputs;
use lengthwise_plan::{PlannerKind, PlannerOptions};
use lengthwise_train::checkpoint::Persistence;
use lengthwise_train::{PretrainedModel, TrainOptions, WeightType};

use self::checkpoint::{CheckpointSettings, checkpoint};
use self::cluster::{Devices, cluster, costs, plan};
pub use self::corpus::Data;
use self::corpus::{batch, cache, data};
use self::model::{Model, model, of_pretrained};
use self::optimizer::{longest_wait, optimizer};
pub use self::schedule::ScheduleName;
use self::tokenizer::ChosenTokenizer;
use self::trace::trace;
pub use self::validation::ValidationSettings;
use self::validation::validation;
use super::overrides::Overrides;
use super::place::Setting;
use super::reader::{Reader, SettingsFile};
use crate::failure::Failure;

/// Every setting, as `section.key`.
pub const KEYS: [&str; 71] = [
    "model.from",
    "model.hidden",
    "model.layers",
    "model.heads",
    "model.kv_heads",
    "model.ffn",
    "model.context",
    "model.rope_theta",
    "model.norm_epsilon",
    "model.tied_output",
    "model.vocab",
    "data.tokenizer",
    "data.end_of_text",
    "data.special_tokens",
    "data.cache",
    "data.text",
    "data.prompt",
    "data.completion",
    "data.messages",
    "data.tools",
    "data.sources",
    "data.paths",
    "data.chat_template",
    "data.corrupt",
    "data.extensions",
    "data.overlong",
    "data.min_tokens",
    "data.seed",
    "data.validation",
    "data.validation_tokens",
    "batch.tokens",
    "batch.sequences",
    "cluster.emulate",
    "cluster.core_fraction",
    "cluster.ranks",
    "cluster.devices_per_node",
    "cluster.device_memory_mib",
    "cluster.host_memory_mib",
    "plan.planner",
    "plan.strategies",
    "plan.degrees",
    "plan.ahead",
    "plan.time_budget_ms",
    "plan.max_communicators",
    "plan.profile",
    "plan.refine",
    "train.steps",
    "train.learning_rate",
    "train.min_learning_rate",
    "train.warmup_steps",
    "train.schedule",
    "train.decay_steps",
    "train.weight_decay",
    "train.no_decay",
    "train.betas",
    "train.epsilon",
    "train.clip_norm",
    "train.validate_every",
    "train.longest_wait_s",
    "train.seed",
    "train.activations",
    "train.metrics",
    "train.export",
    "train.export_type",
    "train.trace",
    "train.trace_steps",
    "checkpoint.directory",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.async",
    "checkpoint.resume",
];

/// Settings of earlier versions, and what became of them.
pub const RENAMED: [(&str, &str); 2] = [
    (
        "train.recompute",
        "it is now train.activations, which can be \"keep\" (as false was) or \"recompute\" (as true was)",
    ),
    (
        "train.checkpoint",
        "it is now train.export: it writes the trained model",
    ),
];

/// A run, ready to begin.
#[derive(Debug)]
pub struct TrainSettings {
    /// The run but its data and planner.
    pub options: TrainOptions,
    /// The directory of the model to go on from.
    pub from: Option<Setting<PathBuf>>,
    /// The cluster whose pace is kept, in words.
    pub emulated: Option<String>,
    /// The file that describes it.
    pub emulated_file: Option<PathBuf>,
    /// The measured costs that plans go by.
    pub profile: Option<Setting<PathBuf>>,
    /// Who plans.
    pub planner: PlannerKind,
    /// How it plans.
    pub planner_options: PlannerOptions,
    /// How text becomes ids.
    pub tokenizer: ChosenTokenizer,
    /// Where ids are kept, if there is a place for them.
    pub cache: Option<PathBuf>,
    /// Whether ids that are kept are checked before they are trained on.
    pub verifies_cache: bool,
    /// What is trained on.
    pub data: Data,
    /// When a batch is full.
    pub batch_size: BatchSize,
    /// What is held out.
    pub validation: Option<ValidationSettings>,
    /// Where each step is recorded.
    pub metrics: Option<Setting<PathBuf>>,
    /// Where the state of the run is saved, and what it goes on from.
    pub checkpoint: CheckpointSettings,
    /// Where the trained model is written.
    pub export: Option<Setting<PathBuf>>,
    /// Where steps are traced.
    pub trace: Option<Setting<PathBuf>>,
    /// Every setting with its place.
    pub shown: String,
}

impl TrainSettings {
    /// Declares the files that a run with these settings reads, but for its profile: not all that train go by one.
    pub fn declare(&self, config: &Path, outputs: &mut Outputs) {
        outputs.reads("the settings file", config);
        if let Some(cluster) = &self.emulated_file {
            outputs.reads("the emulated cluster", cluster);
        }
        if let Some(template) = &self.data.chat_template {
            outputs.reads("the chat template", &template.value);
        }
        // What can't be found has an error of its own where it is needed.
        let corpus = TokenDocuments::find_files(&self.data.paths.value, &self.data.extensions);
        for file in corpus.unwrap_or_default() {
            outputs.reads("a file of the corpus", &file);
        }
        if let Some(validation) = &self.validation {
            let held_out =
                TokenDocuments::find_files(&validation.paths.value, &self.data.extensions);
            for file in held_out.unwrap_or_default() {
                outputs.reads("a file that is held out", &file);
            }
        }
        if let Some(tokenizer) = &self.tokenizer.path {
            outputs.reads("the tokenizer", tokenizer);
        }
        let directory = self.from.as_ref().map(|from| from.value.read_dir());
        for file in directory.into_iter().flatten().flatten().flatten() {
            outputs.reads("a file of the model to go on from", &file.path());
        }
    }

    /// Opens the model to go on from, if there is one, and checks its weights.
    pub fn open_model(&mut self) -> Result<(), Failure> {
        if let Some(from) = &self.from {
            let model = PretrainedModel::open(&from.value);
            let model = model.map_err(|error| of_pretrained(from, &error))?;
            self.options.model = model.config().model.clone();
            self.options.pretrained = Some(Arc::new(model));
        }
        Ok(())
    }

    /// Reads the settings of a file and of this run, and checks them against each other.
    pub fn read(file: &SettingsFile, overrides: &Overrides) -> Result<Self, Failure> {
        let mut reader = Reader::new(file, overrides, &KEYS)?;
        let Model {
            config: model,
            context,
            from,
            tokenizer,
        } = model(&mut reader)?;
        let data = data(&mut reader, &context)?;
        let cache = cache(&mut reader)?;
        let batch_size = batch(&mut reader)?;
        let Devices {
            cluster,
            emulation,
            emulated,
            emulated_file,
        } = cluster(&mut reader, &model)?;
        let families = strategies::families(&mut reader)?;
        let (planner, planner_options, degrees, plan_ahead) =
            plan(&mut reader, &model, &cluster, families)?;
        let (profile, refine) = costs(&mut reader)?;
        let (steps, optimizer) = optimizer(&mut reader)?;
        let validation = validation(&mut reader, steps)?;
        let longest_wait = longest_wait(&mut reader)?;
        let seed = reader.get("train.seed", 0)?.value;
        let activations = strategies::activations(&mut reader, emulation.as_ref())?;
        let space = strategies::space(families, &activations, &model, &cluster, degrees.as_ref())?;
        let mut metrics = reader.optional::<PathBuf>("train.metrics")?;

        let mut export = reader.optional::<PathBuf>("train.export")?;
        if let Some(export) = &mut export {
            export.value = reader.path(export, &export.value)?;
        }
        let weights = reader
            .get("train.export_type", WeightType::default())?
            .value;
        let (trace, traced_steps) = trace(&mut reader, steps)?;
        let checkpoint = checkpoint(&mut reader)?;
        if let Some(metrics) = &mut metrics {
            metrics.value = reader.path(metrics, &metrics.value)?;
        }
        Ok(TrainSettings {
            options: TrainOptions {
                model,
                pretrained: None,
                tokenizer: tokenizer.of_text(from.as_ref()),
                optimizer,
                cluster,
                emulation,
                costs: None,
                refinement: refine.then(RefinementRule::default),
                validation: None,
                context: context.value,
                steps,
                seed,
                activations: strategies::usual(&activations),
                degrees: degrees.map(|degrees| degrees.value),
                space,
                plan_ahead,
                weights,
                export: export.as_ref().map(|export| export.value.clone()),
                persistence: Persistence::default(),
                traced_steps,
                longest_wait,
                injected_failure: None,
            },
            from,
            emulated,
            emulated_file,
            profile,
            planner,
            planner_options,
            tokenizer,
            cache,
            verifies_cache: false,
            data,
            batch_size,
            validation,
            metrics,
            checkpoint,
            export,
            trace,
            shown: reader.show(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        for key in KEYS {
            let paths = if key == "data.paths" {
                ""
            } else {
                "data.paths = [\"corpus\"]\n"
            };
            // No setting is a table.
            let file = SettingsFile::from_text(&format!("{paths}{key} = {{}}\n"));
            let failure = TrainSettings::read(&file, &Overrides::default()).unwrap_err();
            assert!(
                failure
                    .message()
                    .contains(&format!("{key} = {{}}: it must be ")),
                "{}",
                failure.message()
            );
        }
    }
}
