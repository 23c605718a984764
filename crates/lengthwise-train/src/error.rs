//! The reasons why a run could not begin or go on.

use lengthwise_comm::CommError;
use lengthwise_core::words::counted;
use lengthwise_core::{CoreError, PlanViolation, Rank, Tokens};
use lengthwise_cost::{CostError, ProfileError};
use lengthwise_plan::PlanError;
use lengthwise_survey::SurveyError;
use lengthwise_tensor::TensorError;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::export::ExportError;
use crate::hugging_face::PretrainedError;
use crate::model::ModelError;
use crate::options::OptimizerError;
use lengthwise_data::DataError;

/// Why a run could not begin or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum TrainError {
    /// The model's shape is impossible.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A value breaks a rule of the vocabulary.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The measured costs make no model.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// Nothing can be measured.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// The profile is not of this run.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The corpus gives no batch.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model to begin with can't be read.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The trained model can't be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A state can't be gone on from, or not be saved.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Batches that come from no corpus: nothing says where a run would go on in it.
    #[error(
        "the batch of step {step} says nothing of its place in a corpus, and a run can't go on behind it"
    )]
    NoPosition { step: u64 },
    /// A batch can't be planned.
    #[error("step {step} can't be planned: {source}")]
    Plan { step: u64, source: PlanError },
    /// A planner has broken the rules.
    #[error("planner {planner} returned an invalid plan for step {step}: {source}")]
    InvalidPlan {
        planner: &'static str,
        step: u64,
        source: PlanViolation,
    },
    /// A planner has panicked.
    #[error("step {step} can't be planned: planner {planner} panicked: {message}")]
    PlannerPanicked {
        planner: &'static str,
        step: u64,
        message: String,
    },
    /// A held-out batch can't be planned.
    #[error("batch {batch} of the validation can't be planned: {source}")]
    ValidationPlan { batch: u64, source: PlanError },
    /// A planner has broken the rules.
    #[error(
        "planner {planner} returned an invalid plan for batch {batch} of the validation: {source}"
    )]
    InvalidValidationPlan {
        planner: &'static str,
        batch: u64,
        source: PlanViolation,
    },
    /// A planner has panicked.
    #[error("the validation can't be planned: planner {planner} panicked: {message}")]
    ValidationPanicked {
        planner: &'static str,
        message: String,
    },
    /// The source of batches has panicked.
    #[error("step {step} has no batch: the corpus panicked: {message}")]
    CorpusPanicked { step: u64, message: String },
    /// The model's states alone exceed the device.
    #[error(
        "rank {rank} has {budget} of device memory; parameters, gradients, optimiser state and buffers of the \
         model need {fixed_memory}"
    )]
    ModelTooLarge {
        rank: Rank,
        budget: lengthwise_core::Bytes,
        fixed_memory: lengthwise_core::Bytes,
    },
    /// Ranks that are to keep the pace of a cluster other than their own.
    #[error(
        "a cluster of {} can't be emulated by the {num_devices} of the run",
        counted(*emulated, "device")
    )]
    OtherClusterEmulated { emulated: u32, num_devices: u32 },
    /// A device ran out of memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A collective failed.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The loss or the gradient is no number any more.
    #[error("training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}")]
    Diverged {
        step: u64,
        loss: f64,
        gradient_norm: f64,
    },
    /// The last update left parameters that are no numbers.
    #[error(
        "the update of step {step}, the last, left parameters that are no finite numbers; no model was written"
    )]
    NoModel { step: u64 },
    /// A setting of the optimiser that breaks a rule.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A sequence that no plan has room for.
    #[error("a sequence of {} can't be planned: {source}", counted(seq_len.0, "token"))]
    SequenceTooLong {
        seq_len: Tokens,
        /// The longest that can, where any can.
        longest: Option<Tokens>,
        source: PlanError,
    },
    /// A rank was told to fail.
    #[error("rank {rank} fails before step {step}, as it was told to")]
    InjectedFailure { rank: Rank, step: u64 },
    /// An error that several ranks were given.
    #[error(transparent)]
    Shared(std::sync::Arc<TrainError>),
    /// A rank failed, and with it the job.
    #[error("rank {rank} failed: {reason}")]
    RankFailed { rank: Rank, reason: String },
}
