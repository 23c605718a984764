//! Errors of a model's `config.json`, and of the files beside it.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::ModelError;

/// An error of a model's `config.json`.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum ConfigError {
    /// No JSON object.
    #[error("this is not a model's JSON: {reason}")]
    Syntax { reason: String },
    /// A key that has no default.
    #[error("{key} is missing")]
    Missing { key: String },
    /// A value that no model can have, or that is not computed here.
    #[error("{key} = {value}: {rule}")]
    Bad {
        key: String,
        value: String,
        rule: String,
    },
    /// A key that may change what the model computes.
    #[error("{key} = {value}: the key is not known, and may change what the model computes")]
    Unknown { key: String, value: String },
    /// Sizes that do not fit each other.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ConfigError {
    /// A hint for the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ConfigError::Unknown { .. } => Some("remove it from the file if it changes nothing"),
            ConfigError::Missing { .. } | ConfigError::Syntax { .. } => Some(
                "models of the types llama, mistral, qwen2 and qwen3 are read, as transformers writes them",
            ),
            _ => None,
        }
    }
}

/// An error of a model's directory.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum PretrainedError {
    /// The system's error.
    #[error("can't read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The model can't be computed.
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    /// No weights in safetensors.
    #[error("{} holds neither model.safetensors nor model.safetensors.index.json", directory.display())]
    NoWeights { directory: PathBuf },
    /// An index that does not describe the files beside it.
    #[error("{}: {reason}", path.display())]
    Index { path: PathBuf, reason: String },
    /// No whole file of weights.
    #[error("{}: {reason}", path.display())]
    Weights { path: PathBuf, reason: String },
    /// A parameter that is in no file.
    #[error("{} lacks {name}{}", directory.display(), others(*num_missing))]
    Missing {
        directory: PathBuf,
        name: String,
        num_missing: usize,
    },
    /// A tensor that the model does not have.
    #[error("{} holds {name}, which a model of this config.json does not have", path.display())]
    Superfluous { path: PathBuf, name: String },
    /// A tensor of another size.
    #[error("{}: {name} has the shape {shape:?}; by config.json it has {expected:?}", path.display())]
    Shape {
        path: PathBuf,
        name: String,
        shape: Vec<usize>,
        expected: Vec<usize>,
    },
    /// Elements that can't be trained.
    #[error("{}: {name} is of type {dtype}; F32, F16 and BF16 are read", path.display())]
    DataType {
        path: PathBuf,
        name: String,
        dtype: String,
    },
    /// An output projection beside tied embeddings.
    #[error(
        "{}: lm_head.weight is not the embedding table, which tie_word_embeddings says it is",
        path.display()
    )]
    OtherOutput { path: PathBuf },
}

fn others(num_missing: usize) -> String {
    match num_missing {
        0 | 1 => String::new(),
        _ => format!(" and {} other parameters", num_missing - 1),
    }
}

impl PretrainedError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        PretrainedError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    /// A hint for the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PretrainedError::Config { source, .. } => source.hint(),
            PretrainedError::NoWeights { .. } => {
                Some("save the model with transformers' save_pretrained, which writes safetensors")
            }
            PretrainedError::Unreadable { .. } => {
                Some("name a directory with a config.json and weights in safetensors")
            }
            PretrainedError::Index { .. }
            | PretrainedError::Weights { .. }
            | PretrainedError::Missing { .. } => Some("download or copy the model again"),
            PretrainedError::OtherOutput { .. } => Some("set tie_word_embeddings to false"),
            _ => None,
        }
    }
}
