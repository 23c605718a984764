//! `lengthwise checkpoint export`: a model of a checkpoint, as Hugging Face's libraries read it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lengthwise_outputs::Outputs;
use lengthwise_train::{ExportError, MODEL_FILES, WeightType};

use super::{refused, whole};
use crate::failure::Failure;
use crate::output::Output;

/// Arguments of `lengthwise checkpoint export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Where the model is written; the directory must hold none yet.
    #[arg(value_name = "DIRECTORY")]
    pub model_directory: PathBuf,
    /// What its weights are written as.
    #[arg(long = "type", value_name = "TYPE", default_value = "f32")]
    pub weights: WeightName,
}

/// What weights are written as, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WeightName {
    /// Single precision, as they are trained.
    F32,
    /// 16 bits, rounded to nearest.
    Bf16,
}

impl From<WeightName> for WeightType {
    fn from(name: WeightName) -> Self {
        match name {
            WeightName::F32 => WeightType::F32,
            WeightName::Bf16 => WeightType::Bf16,
        }
    }
}

/// Checks the checkpoint and writes the model.
pub fn run(args: &ExportArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let checkpoint = whole(&args.checkpoint).map_err(|error| refused(&error))?;
    let mut outputs = Outputs::new();
    for path in checkpoint.paths() {
        outputs.reads("a file of the checkpoint", &path);
    }
    output.declare(&mut outputs)?;
    outputs.directory("the model", &args.model_directory, MODEL_FILES)?;
    let exported = checkpoint.export(&args.model_directory, args.weights.into());
    let saved = exported.map_err(|error| match error {
        ExportError::Refused(error) => Failure::from(error),
        ExportError::NotSaved(_) => Failure::unsaved(error.to_string()),
        error => Failure::run(error.to_string()),
    })?;
    output.result_line(&format!(
        "{}: the model behind step {}",
        saved.path.display(),
        checkpoint.record().step
    ));
    match saved.elsewhere("the model") {
        Some(problem) => Err(Failure::unsaved(problem)),
        None => Ok(()),
    }
}
