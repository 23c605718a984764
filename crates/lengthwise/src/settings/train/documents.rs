//! Opening what the settings name: documents, their templates, and the batches of them.

use std::collections::HashSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lengthwise_core::Bytes;
use lengthwise_data::chat::ChatTemplates;
use lengthwise_data::records::{CorruptRows, Fields, FileForm, Packing};
use lengthwise_data::token_cache::TokenCache;
use lengthwise_data::{Batches, Corpus, DataError, Documents, RecordEncoder, TokenDocuments};
use lengthwise_outputs::FileIdentity;

use super::{Data, TrainSettings, ValidationSettings};
use crate::encoding_bar::EncodingBar;
use crate::failure::Failure;
use crate::output::Output;
use crate::quantity::count;
use crate::settings::place::Setting;

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

/// The documents of a source.
struct OpenedSource {
    documents: Documents,
    /// What is trained on of each, in words.
    trained_on: String,
}

impl TrainSettings {
    /// The batches that are asked for. What is no text of bytes is encoded first, unless it is kept from an earlier run.
    pub fn open_batches(&self, output: &mut Output<'_>) -> Result<Batches, Failure> {
        let Data {
            paths,
            sources,
            cut,
            seed,
            ..
        } = &self.data;
        let mut opened = Vec::with_capacity(sources.len());
        let mut trained_on = Vec::with_capacity(sources.len());
        for source in sources {
            let of_source = self.open_documents(paths, &source.paths, &source.fields, output)?;
            opened.push((of_source.documents, source.weight));
            trained_on.push(of_source.trained_on);
        }
        let batches = match opened.len() {
            1 => self.batches(paths, opened.remove(0).0),
            _ => Batches::blended(opened, *cut, self.batch_size, *seed)
                .map_err(|error| of_documents(paths, &error)),
        };
        Ok(batches?.made_of(self.tokenizer.described.clone(), trained_on.join("; ")))
    }

    fn batches(
        &self,
        paths: &Setting<Vec<PathBuf>>,
        documents: Documents,
    ) -> Result<Batches, Failure> {
        let (num_skipped, example) = documents.skipped();
        let example = example.unwrap_or("one").to_owned();
        let batches = Batches::new(documents, self.data.cut, self.batch_size, self.data.seed);
        batches.map_err(|error| match error {
            DataError::NoSequences { .. } if num_skipped > 0 => {
                let rows = count(num_skipped, "row");
                let rule = format!("no sequence is left: {rows} skipped as corrupt, such as {example}");
                paths.breaks(rule).hint(
                    "name the field that is meant with data.text, data.prompt and data.completion, or data.messages",
                )
            }
            error => of_documents(paths, &error),
        })
    }

    /// The templates of conversations, if there are any: those that are named, those of the model to go on from, or those
    /// beside the tokenizer.
    fn open_templates<'a>(
        &'a self,
        fields: &Fields,
    ) -> Result<Option<Arc<ChatTemplates>>, Failure> {
        if !fields.may_have_messages() {
            return Ok(None);
        }
        let model = self.from.as_ref().map(|from| from.value.as_path());
        let model = model.or_else(|| self.tokenizer.path.as_deref()?.parent());
        // A file that is named by itself is in this directory.
        let here = |path: &'a Path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let model = model.map(here);
        let is_optional = matches!(fields, Fields::Completion { .. });
        let opened = match (&self.data.chat_template, model) {
            (Some(template), model) => ChatTemplates::of_file(&template.value, model),
            (None, Some(model)) => ChatTemplates::of_model(model),
            (None, None) if is_optional => return Ok(None),
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
            // Prompts that are texts need none; those that are messages are told so where they are.
            Err(_) if self.data.chat_template.is_none() && is_optional => Ok(None),
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
        Ok(!TokenDocuments::are_named_in(&files) && files.iter().all(is_plain))
    }

    /// The documents of `paths`, which `setting` names.
    fn open_documents(
        &self,
        setting: &Setting<Vec<PathBuf>>,
        paths: &[PathBuf],
        fields: &Fields,
        output: &mut Output<'_>,
    ) -> Result<OpenedSource, Failure> {
        let failed = |error| of_documents(setting, &error);
        let templates = self.open_templates(fields)?;
        let encoder = Arc::clone(&self.tokenizer.encoder);
        let source = RecordEncoder::new(encoder, fields.clone(), templates, self.data.corrupt);
        let trained_on = source.trained_on();
        if self.is_read_in_place(paths, fields).map_err(failed)? {
            let corpus = Corpus::open(paths, &self.data.extensions).map_err(failed)?;
            return Ok(OpenedSource {
                documents: corpus.into(),
                trained_on,
            });
        }
        let cache = self.cache.as_deref().ok_or_else(|| {
            Failure::input("there is no home directory to keep tokens in")
                .hint("name a directory for them with --cache")
        })?;
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
        if opened.num_removed_bytes > 0 {
            output.note(&format!(
                "removed    {} of kept tokens, whose files have changed since, from {}",
                Bytes(opened.num_removed_bytes),
                cache.display()
            ));
        }
        if self.verifies_cache {
            opened.documents.check().map_err(failed)?;
        }
        let documents = match self.verifies_cache {
            true => opened.documents,
            false => opened.documents.checked_in_background(),
        };
        Ok(OpenedSource {
            documents: documents.into(),
            trained_on,
        })
    }

    /// One epoch of the held-out batches, if there are some.
    pub fn open_held_out(&self, output: &mut Output<'_>) -> Result<Option<Batches>, Failure> {
        let Some(ValidationSettings { paths, .. }) = &self.validation else {
            return Ok(None);
        };
        let found = TokenDocuments::find_files(&paths.value, &self.data.extensions);
        let found = found.map_err(|error| of_documents(paths, &error))?;
        let trained_on = TokenDocuments::find_files(&self.data.paths.value, &self.data.extensions);
        let identity = |path: &PathBuf| FileIdentity::of(path).ok();
        let trained_on: HashSet<FileIdentity> = (trained_on.unwrap_or_default().iter())
            .filter_map(identity)
            .collect();
        let both = |path: &&PathBuf| identity(path).is_some_and(|one| trained_on.contains(&one));
        if let Some(file) = found.iter().find(both) {
            let rule = format!("{} belongs to data.paths too", file.display());
            let hint = "keep what is held out apart from what is trained on";
            return Err(paths.breaks(rule).hint(hint));
        }
        let fields = &self.data.fields;
        let opened = self.open_documents(paths, &paths.value, fields, output)?;
        let batches = self.batches(paths, opened.documents)?;
        Ok(Some(batches.ending_after(NonZero::<u64>::MIN)))
    }
}
