//! Models as Hugging Face directories hold them: `config.json` beside weights in safetensors.
//!
//! ```text
//! config      what config.json says: every key honoured, known to change nothing, or refused
//! written     what config.json has to say of a model
//! pretrained  a directory, checked before anything is read of its weights
//! weight_file one safetensors file
//! ```

mod config;
mod error;
mod fields;
mod pretrained;
mod rope;
mod weight_file;
mod written;

pub use config::PretrainedConfig;
pub use error::{ConfigError, PretrainedError};
pub use pretrained::PretrainedModel;
pub(crate) use pretrained::read_config;
pub(crate) use weight_file::{Stored, StoredTensor, WeightHeader, weight_header};
pub(crate) use written::config_json;
