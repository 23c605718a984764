//! States of a run to go on from: weights, AdamW's moments, and where the run was.
//!
//! ```text
//! DIR/step-00000100/shard-00001-model-00001-of-00003.safetensors ...  each rank's shards, as PyTorch's
//!                                                            HuggingFaceStorageReader reads them
//! DIR/step-00000100/config.json ...                          the model, and the tokenizer that goes with it
//! DIR/step-00000100/trainer.json                             the rest, and the sizes and checksums of all files
//!
//! rectangle   a flat range of a matrix is at most three rectangles
//! shard_file  the files of a rank's shard
//! record      trainer.json
//! costs       the costs of steps, as trainer.json holds them
//! open        a checkpoint, checked; each rank reads its own of it
//! newest      the checkpoints of a directory
//! saver       writes them in the background
//! ```

mod costs;
mod error;
mod newest;
mod open;
mod options;
mod record;
mod rectangle;
mod saver;
mod shard_file;

pub use costs::{CostsRecord, KindRecord};
pub use error::CheckpointError;
pub use newest::{latest, steps_in};
pub use open::Checkpoint;
pub use options::{Persistence, SaveNotes, SaveOptions, StopRequest};
pub use record::{CheckpointFile, ClusterRecord, TrainerRecord};
pub use saver::SavedCheckpoint;
pub(crate) use saver::{SaveMoment, Saver};

use crate::model::UnitSpec;
use std::ops::Range;

/// The file that makes a directory a checkpoint.
pub const RECORD_FILE: &str = "trainer.json";

/// The name of the checkpoint of a step.
pub fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

/// The tensors that a checkpoint holds of each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// The parameter itself.
    Weight,
    /// AdamW's first moment.
    FirstMoment,
    /// AdamW's second moment.
    SecondMoment,
}

impl StateKind {
    /// All of them.
    pub const ALL: [StateKind; 3] = [
        StateKind::Weight,
        StateKind::FirstMoment,
        StateKind::SecondMoment,
    ];

    /// The tensor that holds it for a parameter: that of Hugging Face, and those of PyTorch's flattened optimiser state.
    pub fn tensor_name(self, parameter: &str) -> String {
        match self {
            StateKind::Weight => parameter.to_owned(),
            StateKind::FirstMoment => format!("state.{parameter}.exp_avg"),
            StateKind::SecondMoment => format!("state.{parameter}.exp_avg_sq"),
        }
    }
}

/// The elements of a rank's shard of a unit.
pub enum Elements {
    /// A copy of them, which training leaves alone.
    Copied(Vec<f32>),
    /// They are read where they are: training stands still until they are written.
    InPlace(ReadElements),
}

/// Appends the elements of a range.
type ReadElements = Box<dyn Fn(Range<usize>, &mut Vec<f32>) + Send>;

impl Elements {
    /// Appends those of a range.
    pub fn read(&self, range: Range<usize>, elements: &mut Vec<f32>) {
        match self {
            Elements::Copied(copy) => elements.extend_from_slice(&copy[range]),
            Elements::InPlace(read) => read(range, elements),
        }
    }
}

/// A rank's shard of a unit: a range of its flat vector.
pub struct UnitState {
    /// Which of the unit's elements these are.
    pub range: Range<usize>,
    /// In the order of [`StateKind::ALL`].
    pub elements: [Elements; 3],
}

impl UnitState {
    /// The elements that it holds of each parameter: their range in the parameter, and that in the shard.
    pub fn parameters<'a>(
        &'a self,
        unit: &'a UnitSpec,
    ) -> impl Iterator<Item = (&'a crate::ParameterSpec, Range<usize>, Range<usize>)> + 'a {
        unit.ranges().filter_map(|(parameter, place)| {
            let part = place.start.max(self.range.start)..place.end.min(self.range.end);
            (!part.is_empty()).then(|| {
                (
                    parameter,
                    part.start - place.start..part.end - place.start,
                    part.start - self.range.start..part.end - self.range.start,
                )
            })
        })
    }
}
