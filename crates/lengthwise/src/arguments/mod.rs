//! Arguments that several commands have.

mod costs;
mod parallelism;
mod planning;
mod rules;
mod values;

pub(crate) use costs::{CostArgs, several};
pub(crate) use lengthwise_inputs::duration;
pub(crate) use parallelism::ParallelismArgs;
pub(crate) use planning::PlanningLimits;
pub(crate) use rules::RuleArgs;
pub(crate) use values::{degree, devices};
