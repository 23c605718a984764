//! The cost of a sequence: the time and the memory it adds to a group of a strategy.
//!
//! Costs are additive over the sequences of a group. A planner asks a [`CostModel`] for single sequences
//! and adds up; [`predict_step`] applies the same rules to a whole plan:
//!
//! ```text
//! group       = sum over its sequences of sequence_time / speed of its slowest device
//! micro-batch = micro_batch_overhead + slowest group        (its makespan)
//! step        = sum over micro-batches
//! ```
//!
//! | costs that | come from |
//! | --- | --- |
//! | were measured, or published | a [`Profile`], a file |
//! | follow from data sheets | an [`AnalyticModel`]: an [`Architecture`] on [`Hardware`], files or known by name |
//!
//! Both end as a [`FittedModel`], the one cost model that planners are given.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests write what is read")
)]
#![forbid(unsafe_code)]

mod analytic;
mod core_sharing;
mod degree_table;
mod error;
mod fitted_costs;
mod fitted_model;
pub mod fitting;
pub mod format;
mod hardware;
mod host_costs;
mod measurement;
mod model;
mod per_degree;
mod predict;
mod profile;
mod recent_errors;
mod refinement;
mod ring_costs;
mod step_model;
pub mod text_file;
mod token_volume;

pub use analytic::{
    AnalyticModel, Architecture, DataType, Logits, MatrixFlops, ModelKind, ModelShare,
    Recomputation,
};
pub use core_sharing::CoreSharing;
pub use error::{CostError, HardwareError, ProfileError};
pub use fitted_costs::{FittedCosts, KindCosts};
pub use fitted_model::{FittedModel, head_imbalance};
pub use hardware::{ClusterLinks, DeviceKind, DeviceModel, ExchangeEfficiency, Hardware, Link};
pub use host_costs::HostCosts;
pub use measurement::{FitReport, MeasuredFor, MeasuredGroup, MeasuredParts, Measurement};
pub use model::{CostModel, GroupShape, Span, TimeParts};
pub use per_degree::PerDegree;
pub use predict::{predict_group, predict_micro_batch, predict_step, slowest_speed};
pub use profile::{
    ClusterProfile, DeviceProfile, HostProfile, KindProfile, ModelProfile, NodeProfile,
    OverheadProfile, Profile, RingProfile,
};
pub use recent_errors::RecentErrors;
pub use refinement::{MeasuredMicroBatch, MeasuredStep, Refinement, RefinementRule};
pub use ring_costs::{HopCosts, RingCosts};
pub use step_model::StepModel;
pub use token_volume::{TokenBytes, TokenVolume};
