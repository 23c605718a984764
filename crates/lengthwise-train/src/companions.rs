//! The files that go with a model's weights: its config, its tokenizer, and how to generate text.

use std::path::{Path, PathBuf};

use lengthwise_data::ByteTokenizer;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::hugging_face::config_json;
use crate::{ModelConfig, PretrainedModel, TrainOptions};

/// The files that make a directory that of a model, none of which is ever replaced.
pub const MODEL_FILES: &[&str] = &[
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    GENERATION_CONFIG,
    // From here on those of its tokenizer.
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// The files of tokenizers. Who reads a tokenizer reads those that are there.
const TOKENIZER_FILES: &[&str] = MODEL_FILES.split_at(4).1;

/// Names what ends a text too, and belongs to a model together with its tokenizer.
const GENERATION_CONFIG: &str = "generation_config.json";

/// The tokenizer that text was encoded with, where it is another one than that of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTokenizer {
    /// Its `tokenizer.json`, whatever it is called; the files that go with it are beside it.
    pub file: PathBuf,
    /// The token that documents began with.
    pub first: u32,
    /// The token that stood after each document.
    pub end_of_text: u32,
}

/// The model that a run started from, and its tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Companions<'a> {
    source: Option<Source<'a>>,
    tokenizer: Option<&'a TextTokenizer>,
}

/// A directory with a model.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    directory: &'a Path,
    /// All keys of its `config.json`.
    keys: &'a Map<String, Value>,
}

impl<'a> From<&'a PretrainedModel> for Companions<'a> {
    fn from(model: &'a PretrainedModel) -> Self {
        Companions {
            source: Some(Source {
                directory: model.directory(),
                keys: model.keys(),
            }),
            tokenizer: None,
        }
    }
}

impl<'a> From<&'a Checkpoint> for Companions<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Companions {
            source: Some(Source {
                directory: checkpoint.directory(),
                keys: checkpoint.keys(),
            }),
            tokenizer: None,
        }
    }
}

impl<'a> Companions<'a> {
    /// Those of a run's model.
    pub(crate) fn of_run(options: &'a TrainOptions) -> Self {
        let pretrained = options.pretrained.as_deref().map(Companions::from);
        let resumed = options.persistence.resume.as_deref();
        let source = pretrained.or_else(|| resumed.map(Companions::from));
        Companions {
            tokenizer: options.tokenizer.as_ref(),
            ..source.unwrap_or_default()
        }
    }

    /// The keys of `config.json`, with weights of the type that `torch` calls so.
    pub(crate) fn config(
        &self,
        config: &ModelConfig,
        context: u64,
        torch: &str,
    ) -> Map<String, Value> {
        let mut keys = match self.source {
            Some(source) => {
                let mut keys = source.keys.clone();
                let is_new = keys.remove("dtype").is_some();
                // Written weights are not quantised, whatever they were once read from.
                keys.remove("quantization_config");
                keys.remove("torch_dtype");
                let key = if is_new { "dtype" } else { "torch_dtype" };
                keys.insert(key.to_owned(), torch.into());
                keys
            }
            None => config_json(config, context, torch),
        };
        let bytes = (ByteTokenizer::END_OF_TEXT, ByteTokenizer::END_OF_TEXT);
        let ends = match (self.source, self.tokenizer) {
            (_, Some(tokenizer)) => Some((tokenizer.first, tokenizer.end_of_text)),
            (None, None) => Some(bytes),
            (Some(_), None) => None,
        };
        if let Some((first, end_of_text)) = ends {
            keys.insert("bos_token_id".to_owned(), first.into());
            keys.insert("eos_token_id".to_owned(), end_of_text.into());
        }
        keys
    }

    /// The other files: where each is, if it is there, and its name beside the weights.
    pub(crate) fn files(&self) -> Vec<(PathBuf, &'static str)> {
        let all = |directory: &Path| -> Vec<_> {
            let names = TOKENIZER_FILES.iter();
            names.map(|&name| (directory.join(name), name)).collect()
        };
        let source = self.source.map(|source| source.directory);
        match (self.tokenizer, source) {
            (Some(tokenizer), _) => {
                let mut files = all(tokenizer.file.parent().unwrap_or(Path::new("")));
                for (path, name) in &mut files {
                    if *name == "tokenizer.json" {
                        path.clone_from(&tokenizer.file);
                    }
                }
                files
            }
            (None, Some(directory)) => {
                let mut files = all(directory);
                files.push((directory.join(GENERATION_CONFIG), GENERATION_CONFIG));
                files
            }
            (None, None) => Vec::new(),
        }
    }
}
