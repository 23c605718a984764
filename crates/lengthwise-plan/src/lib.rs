//! Planners: from the lengths of a global batch to a plan, with a report of how good it is.

#![forbid(unsafe_code)]

// Tests of private pieces draw their problems as those of the whole crate do.
#[cfg(test)]
extern crate self as lengthwise_plan;

mod adaptive;
mod aligned;
mod arrangement;
mod balanced_cuts;
mod batch_adaptive;
mod bound;
mod budget;
mod certificate;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod communicators;
mod completion;
mod deadline;
mod draft;
mod error;
mod exhaustive;
mod explain;
mod flexsp;
mod group_budgets;
mod homogeneous;
mod instance;
mod kind;
mod load;
mod longest_sequence;
mod megatron;
mod options;
mod outdone;
mod patterns;
mod placement;
mod planner;
mod rules;
mod shortlist;
mod static_degree;

pub use adaptive::Adaptive;
pub use batch_adaptive::BatchAdaptive;
pub use error::{MemoryLimit, PlanError, Rule};
pub use exhaustive::Exhaustive;
pub use explain::{Choice, Obstacle, Setting, TokenBudget, TokenLimit};
pub use flexsp::{FlexSp, MilpSolver};
pub use kind::{PlannerKind, UnknownPlanner};
pub use megatron::{Megatron, MegatronLimit};
pub use options::PlannerOptions;
pub use planner::{Attempts, PlanReport, Planned, Planner, Problem, StopReason};
pub use static_degree::Static;
