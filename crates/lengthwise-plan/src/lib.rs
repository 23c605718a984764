//! Planners: from the lengths of a global batch to a plan, with a report of how good it is.

#![forbid(unsafe_code)]

mod error;
mod planner;

pub use error::PlanError;
pub use planner::{PlanReport, Planned, Planner, Problem, StopReason};
