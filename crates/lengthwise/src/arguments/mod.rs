//! Arguments that several commands have.

mod costs;
mod exclusions;
mod parallelism;
mod planning;
mod rules;
mod values;

pub(crate) use costs::{CostArgs, several};
#[cfg(test)]
pub(crate) use exclusions::EXCLUSIONS;
pub(crate) use exclusions::exclusive;
pub(crate) use lengthwise_inputs::duration;
pub(crate) use parallelism::{ParallelismArgs, logits};
pub(crate) use planning::PlanningLimits;
pub(crate) use rules::RuleArgs;
pub(crate) use values::{degree, devices};
