//! The settings of `lengthwise train`: keys, defaults and rules.

mod checkpoint;
mod cluster;
mod corpus;
mod model;
mod optimizer;
mod schedule;
mod sources;
mod tokenizer;
mod trace;
mod validation;

use std::collections::HashSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lengthwise_core::Activations;
use lengthwise_cost::RefinementRule;
use lengthwise_data::chat::ChatTemplates;
use lengthwise_data::records::{CorruptRows, Fields, FileForm, Packing};
use lengthwise_data::token_cache::TokenCache;
use lengthwise_data::{
    BatchSize, Batches, Corpus, DataError, Documents, RecordEncoder, TokenDocuments,
};
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
use crate::encoding_bar::EncodingBar;
use crate::failure::Failure;
use crate::output::Output;

/// Every setting, as `section.key`.
pub const KEYS: [&str; 69] = [
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
    "plan.planner",
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

/// The error that documents can't be opened, read or drawn from.
fn of_documents(paths: &Setting<Vec<PathBuf>>, error: &DataError) -> Failure {
    let failure = match error {
        // What no path says.
        DataError::Write { .. } => Failure::input(error.to_string()),
        _ => paths.breaks(error),
    };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
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

    /// The batches that are asked for. What is no text of bytes is encoded first, unless it is kept from an earlier run.
    pub fn open_batches(&self, output: &mut Output<'_>) -> Result<Batches, Failure> {
        let Data {
            paths,
            sources,
            cut,
            seed,
            ..
        } = &self.data;
        if let [source] = &sources[..] {
            let documents = self.open_documents(paths, &source.paths, &source.fields, output)?;
            return self.batches(paths, documents);
        }
        let mut opened = Vec::with_capacity(sources.len());
        for source in sources {
            let documents = self.open_documents(paths, &source.paths, &source.fields, output)?;
            opened.push((documents, source.weight));
        }
        Batches::blended(opened, *cut, self.batch_size, *seed)
            .map_err(|error| of_documents(paths, &error))
    }

    fn batches(
        &self,
        paths: &Setting<Vec<PathBuf>>,
        documents: Documents,
    ) -> Result<Batches, Failure> {
        Batches::new(documents, self.data.cut, self.batch_size, self.data.seed)
            .map_err(|error| of_documents(paths, &error))
    }

    /// The templates of conversations, if there are any: those that are named, those of the model to go on from, or those
    /// beside the tokenizer.
    fn open_templates(&self, fields: &Fields) -> Result<Option<Arc<ChatTemplates>>, Failure> {
        if !matches!(fields, Fields::Messages { .. }) {
            return Ok(None);
        }
        let model = self.from.as_ref().map(|from| from.value.as_path());
        let model = model.or_else(|| self.tokenizer.path.as_deref()?.parent());
        let opened = match (&self.data.chat_template, model) {
            (Some(template), model) => ChatTemplates::of_file(&template.value, model),
            (None, Some(model)) => ChatTemplates::of_model(model),
            (None, None) => {
                let failure = Failure::input(
                    "conversations need a chat template, and there is no model that has one",
                );
                return Err(
                    failure.hint("name one with data.chat_template, or a model with model.from")
                );
            }
        };
        match opened {
            Ok(templates) => Ok(Some(Arc::new(templates))),
            Err(error) => {
                let failure = match &self.data.chat_template {
                    Some(template) => template.breaks(&error),
                    None => Failure::input(error.to_string()),
                };
                Err(match error.hint() {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
        }
    }

    /// Whether documents are read where they are, since their bytes are the ids.
    fn is_read_in_place(&self, paths: &[PathBuf], fields: &Fields) -> Result<bool, DataError> {
        if !self.tokenizer.is_bytes()
            || TokenDocuments::are_named_in(paths)
            || *fields != Fields::default()
            || self.data.corrupt != CorruptRows::default()
        {
            return Ok(false);
        }
        let files = TokenDocuments::find_files(paths, &self.data.extensions)?;
        let is_plain = |file: &PathBuf| {
            let (form, packing) = FileForm::of(file);
            form != FileForm::Parquet && packing == Packing::Plain
        };
        Ok(files.iter().all(is_plain))
    }

    /// The documents of `paths`, which `setting` names.
    fn open_documents(
        &self,
        setting: &Setting<Vec<PathBuf>>,
        paths: &[PathBuf],
        fields: &Fields,
        output: &mut Output<'_>,
    ) -> Result<Documents, Failure> {
        let failed = |error| of_documents(setting, &error);
        if self.is_read_in_place(paths, fields).map_err(failed)? {
            let corpus = Corpus::open(paths, &self.data.extensions);
            return corpus.map(Documents::from).map_err(failed);
        }
        let templates = self.open_templates(fields)?;
        let cache = self.cache.as_deref().ok_or_else(|| {
            Failure::input("there is no home directory to keep tokens in")
                .hint("name a directory for them with --cache")
        })?;
        let encoder = Arc::clone(&self.tokenizer.encoder);
        let source = RecordEncoder::new(encoder, fields.clone(), templates, self.data.corrupt);
        let mut bar = EncodingBar::new(output);
        let opened = TokenDocuments::open(
            paths,
            &self.data.extensions,
            &source,
            &TokenCache::new(cache),
            self.options.model.vocab,
            &mut |so_far| bar.show(so_far),
        );
        let encoded = bar.end();
        let opened = opened.map_err(failed)?;
        for warning in &opened.warnings {
            output.warning(warning);
        }
        if let Some(encoded) = encoded {
            output.note(&encoded);
        }
        if self.verifies_cache {
            opened.documents.check().map_err(failed)?;
            return Ok(opened.documents.into());
        }
        Ok(opened.documents.checked_in_background().into())
    }

    /// One epoch of the held-out batches, if there are some.
    pub fn open_held_out(&self, output: &mut Output<'_>) -> Result<Option<Batches>, Failure> {
        let Some(ValidationSettings { paths, .. }) = &self.validation else {
            return Ok(None);
        };
        let found = TokenDocuments::find_files(&paths.value, &self.data.extensions);
        let found = found.map_err(|error| of_documents(paths, &error))?;
        let trained_on = TokenDocuments::find_files(&self.data.paths.value, &self.data.extensions);
        let real = |path: &PathBuf| path.canonicalize().ok();
        let trained_on: HashSet<PathBuf> = (trained_on.unwrap_or_default().iter())
            .filter_map(real)
            .collect();
        let both = |path: &&PathBuf| real(path).is_some_and(|path| trained_on.contains(&path));
        if let Some(file) = found.iter().find(both) {
            let rule = format!("{} belongs to data.paths too", file.display());
            let hint = "keep what is held out apart from what is trained on";
            return Err(paths.breaks(rule).hint(hint));
        }
        let fields = &self.data.fields;
        let documents = self.open_documents(paths, &paths.value, fields, output)?;
        let batches = self.batches(paths, documents)?;
        Ok(Some(batches.ending_after(NonZero::<u64>::MIN)))
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
        let (planner, planner_options, degrees, plan_ahead) = plan(&mut reader, &model, &cluster)?;
        let (profile, refine) = costs(&mut reader)?;
        let (steps, optimizer) = optimizer(&mut reader)?;
        let validation = validation(&mut reader, steps)?;
        let longest_wait = longest_wait(&mut reader)?;
        let seed = reader.get("train.seed", 0)?.value;
        let activations = reader.get("train.activations", Activations::Recompute)?;
        activations.must(
            activations.value != Activations::Host,
            "activations can't be moved to the host in this version",
            "keep or recompute them",
        )?;
        let activations = activations.value;
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
                activations,
                degrees,
                space: None,
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
