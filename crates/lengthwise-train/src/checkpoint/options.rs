//! Options of a run that survives: where its state is saved, where it goes on from, and when it is asked to stop.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lengthwise_data::DataFingerprint;

use super::Checkpoint;

/// Options of a run that survives.
#[derive(Clone, Debug, Default)]
pub struct Persistence {
    /// Where its state is saved, if it is.
    pub save: Option<SaveOptions>,
    /// The checkpoint that it goes on from.
    pub resume: Option<Arc<Checkpoint>>,
    /// Asks it to stop.
    pub stop: StopRequest,
}

/// Where the state of a run is saved, and when.
#[derive(Clone, Debug)]
pub struct SaveOptions {
    /// The directory of all checkpoints.
    pub directory: PathBuf,
    /// Steps from one to the next.
    pub every: NonZero<u64>,
    /// The number that is kept.
    pub keep: NonZero<usize>,
    /// Whether training goes on while a state is written.
    pub is_async: bool,
    /// Other facts that they hold of the run.
    pub notes: SaveNotes,
}

impl SaveOptions {
    /// Bytes of a parameter and its two moments, in a checkpoint and in the copy that is written meanwhile.
    pub const BYTES_OF_PARAMETER: u64 = 12;
}

/// Facts that checkpoints hold of a run beside its state.
#[derive(Clone, Debug)]
pub struct SaveNotes {
    /// The version of the program.
    pub program: String,
    /// The name of the run.
    pub run: String,
    /// The documents that batches are drawn from.
    pub data: DataFingerprint,
    /// The settings, in TOML.
    pub settings: String,
}

/// Asks a run to finish its step, save its state and end.
#[derive(Clone, Debug, Default)]
pub struct StopRequest(Arc<AtomicBool>);

impl StopRequest {
    /// Asks for it; may be called at any time, more than once.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
