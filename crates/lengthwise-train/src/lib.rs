//! Trains a decoder while the groups of ranks change from micro-batch to micro-batch.
//!
//! ```text
//! data     corpus -> token sequences -> global batches
//! feed     plans every batch in background threads, several steps ahead
//! model    the decoder: shapes, parameters, one layer's forward and backward
//! executor runs a plan on one rank: gathers, exchanges, gradients
//! trainer  all ranks, all steps: optimiser, records, summary
//! ```

pub mod data;
mod model;
mod options;
mod record;

pub use model::{ModelConfig, ModelError};
pub use options::{OptimizerConfig, TrainOptions};
pub use record::{StepRecord, TrainObserver, TrainSummary};
