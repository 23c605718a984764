//! Planners: from the lengths of a global batch to a plan, with a report of how good it is.

#![forbid(unsafe_code)]

mod adaptive;
mod bound;
mod draft;
mod error;
mod homogeneous;
mod instance;
mod kind;
mod placement;
mod planner;
mod static_degree;

pub use adaptive::Adaptive;
pub use error::PlanError;
pub use kind::{PlannerKind, UnknownPlanner};
pub use planner::{PlanReport, Planned, Planner, Problem, StopReason};
pub use static_degree::Static;
