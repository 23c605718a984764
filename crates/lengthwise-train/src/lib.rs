//! Trains a decoder while the groups of ranks change from micro-batch to micro-batch.
//!
//! ```text
//! feed     plans every batch in background threads, several steps ahead
//! hugging_face  models in directories: config.json and safetensors
//! model    the decoder: shapes, parameters, one layer's forward and backward
//! executor runs a plan on one rank: gathers, exchanges, gradients
//! checkpoint  states to go on from, in the form of PyTorch's distributed checkpoints
//! trainer  all ranks, all steps: optimiser, records, summary
//! ```

#![forbid(unsafe_code)]

mod calibration;
pub mod checkpoint;
mod companions;
mod error;
mod executor;
mod export;
mod feed;
mod forward_costs;
mod hugging_face;
pub mod memory;
mod model;
mod no_decay;
mod options;
mod record;
mod schedule;
mod stopwatch;
mod timed;
mod timeline;
mod trace;
mod trainer;
mod validation;
pub mod volume;

pub use calibration::{Clock, MeasuringProgress, MeasuringRule, calibrate, profile};
pub use companions::{Companions, MODEL_FILES, TextTokenizer};
pub use error::TrainError;
pub use executor::{Executor, MicroBatchTime, StepOutcome};
pub use export::{ExportError, ExportWriter, WeightType};
pub use feed::{PlanFeed, PlannedBatch, Planning, PlanningCosts};
pub use hugging_face::{ConfigError, PretrainedConfig, PretrainedError, PretrainedModel};
pub use lengthwise_survey::{MeasuredCosts, SurveyRule};
pub use model::{
    Family, ModelConfig, ModelError, ModelSpec, ParameterKind, ParameterSpec, Rope, RopeScaling,
    SlidingWindow, UnitSpec,
};
pub use no_decay::NoDecay;
pub use options::{InjectedFailure, OptimizerConfig, OptimizerError, TrainOptions};
pub use record::{RankTime, StepRecord, TrainObserver, TrainSummary};
pub use schedule::Schedule;
pub use trainer::{allowed_strategies, check_longest, measure_costs, profiled_costs, train};
pub use validation::{Validation, ValidationRecord};
