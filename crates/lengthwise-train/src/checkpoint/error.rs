//! Errors of checkpoints.

use std::path::PathBuf;

use lengthwise_outputs::OutputError;
use thiserror::Error;

use crate::hugging_face::PretrainedError;

/// An error of a checkpoint, or of going on from one.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum CheckpointError {
    /// No directory.
    #[error("{} does not exist", directory.display())]
    Missing { directory: PathBuf },
    /// No checkpoint.
    #[error("{} holds no trainer.json, so it is no checkpoint", directory.display())]
    None { directory: PathBuf },
    /// The system's error.
    #[error("can't read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A record that says nothing.
    #[error("{}: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
    /// A file that is not as it was written.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A model, or a file of weights, that can't be read.
    #[error(transparent)]
    Model(#[from] PretrainedError),
    /// Shards that are not the whole state.
    #[error("{}: {reason}", directory.display())]
    Shards { directory: PathBuf, reason: String },
    /// The newest one is broken.
    #[error("{source}")]
    NewestBroken {
        #[source]
        source: Box<CheckpointError>,
        /// The broken one.
        newest: PathBuf,
        /// The newest one before it that is whole.
        older: Option<PathBuf>,
    },
    /// Another model.
    #[error(
        "{} is a checkpoint of another model: {key} is {there} there, and {here} in this run",
        directory.display()
    )]
    OtherModel {
        directory: PathBuf,
        key: String,
        there: String,
        here: String,
    },
    /// Other batches would follow.
    #[error("{} can't be gone on from with these batches: {difference}", directory.display())]
    OtherData {
        directory: PathBuf,
        difference: String,
    },
    /// Other initial parameters.
    #[error("{} began with train.seed = {there}, and this run has {here}", directory.display())]
    OtherSeed {
        directory: PathBuf,
        there: u64,
        here: u64,
    },
    /// Nothing is left to do.
    #[error(
        "{} was written after step {step}, and the run has only {steps}",
        directory.display()
    )]
    Beyond {
        directory: PathBuf,
        step: u64,
        steps: u64,
    },
    /// Checkpoints are there that the run would have to replace.
    #[error(
        "{} holds {}, and the run begins {}: a checkpoint is never overwritten",
        directory.display(),
        super::name_of(*newest),
        begin(*after)
    )]
    Later {
        directory: PathBuf,
        newest: u64,
        /// The step that the run goes on behind; 0 for a new run.
        after: u64,
    },
    /// The directory can't be written.
    #[error(transparent)]
    Refused(#[from] OutputError),
}

fn begin(after: u64) -> String {
    match after {
        0 => "with step 1".to_owned(),
        after => format!("behind step {after}"),
    }
}

impl CheckpointError {
    /// A hint for the user.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            CheckpointError::Missing { .. } | CheckpointError::None { .. } => {
                "name a directory like runs/first/step-00000100 that a run has written".to_owned()
            }
            CheckpointError::NewestBroken {
                newest,
                older: Some(older),
                ..
            } => format!(
                "the newest whole checkpoint is {}: move {} away, and --resume latest goes on from it",
                older.display(),
                newest.display()
            ),
            CheckpointError::NewestBroken { .. } => {
                "no older checkpoint there is whole; begin anew, in another directory".to_owned()
            }
            CheckpointError::Record { .. }
            | CheckpointError::File { .. }
            | CheckpointError::Shards { .. } => "go on from another checkpoint".to_owned(),
            CheckpointError::OtherModel { .. } => {
                "go on with the model that the run began with".to_owned()
            }
            CheckpointError::OtherData { .. } | CheckpointError::OtherSeed { .. } => {
                "go on with the data, the batches and the seeds that the run began with".to_owned()
            }
            CheckpointError::Beyond { .. } => "raise train.steps".to_owned(),
            CheckpointError::Later { after: 0, .. } => {
                "go on with --resume latest, or name another directory".to_owned()
            }
            CheckpointError::Later { .. } => {
                "move the later ones away, or name another directory".to_owned()
            }
            CheckpointError::Refused(error) => return error.hint(),
            CheckpointError::Model(error) => return error.hint().map(str::to_owned),
            CheckpointError::Unreadable { .. } => return None,
        })
    }
}
