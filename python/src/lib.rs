//! The Python package `lengthwise`: planners, plans and costs as Python objects, over the crates that the command uses.
//!
//! ```text
//! Planner        cost_arguments, planning_arguments   what its constructor takes
//!                planning                             a planner's work, without Python: it runs with the GIL released
//! Plan           micro_batch, group, rank_work        parts of one plan, which share it
//!                picture                              a plan as SVG
//! Ahead          plans on threads of their own
//! Explanation    what a length needs and may use; TokenBudget, what devices can hold
//! Simulation     a simulated step
//! Profile        measured costs
//! Rules          what plans have to keep
//! Survey, Refinement, MetricsFile   what lengthwise.torch measures: costs before a training, and its steps
//! lengths        batches of lengths: lists, arrays, tensors, buffers
//! BatchSchedule  which sequences make which batch, for lengthwise.torch; BatchStream, where lengths arrive one by one
//!                batch_arguments, scheduled_batch, census   what these take and return
//! fault, values  errors, and arguments that name what is wrong with them
//! command        the command `lengthwise`
//! ```
//!
//! Exceptions are Python classes (`lengthwise.errors`): native exceptions can't be extended where one build is for
//! several versions of Python.

#![forbid(unsafe_code)]

mod ahead;
mod batch_arguments;
mod batch_schedule;
mod batch_stream;
mod census;
mod command;
mod cost_arguments;
mod explanation;
mod fault;
mod group;
mod lengths;
mod micro_batch;
mod picture;
mod plan;
mod planner;
mod planning;
mod planning_arguments;
mod profile;
mod promise;
mod rank_work;
mod refinement;
mod rules;
mod scheduled_batch;
mod simulation;
mod step_metrics;
mod strategy;
mod survey;
mod token_budget;
mod values;

use pyo3::prelude::*;

#[pymodule]
fn _lengthwise(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(command::run_command, module)?)?;
    module.add_class::<ahead::Ahead>()?;
    module.add_class::<batch_schedule::BatchSchedule>()?;
    module.add_class::<batch_stream::BatchStream>()?;
    module.add_class::<census::Census>()?;
    module.add_class::<explanation::Choice>()?;
    module.add_class::<explanation::Explanation>()?;
    module.add_class::<group::Group>()?;
    module.add_class::<micro_batch::MicroBatch>()?;
    module.add_class::<plan::Plan>()?;
    module.add_class::<planner::Planner>()?;
    module.add_class::<profile::Profile>()?;
    module.add_class::<rank_work::RankWork>()?;
    module.add_class::<refinement::Refinement>()?;
    module.add_class::<rules::Rules>()?;
    module.add_class::<scheduled_batch::ScheduledBatch>()?;
    module.add_class::<simulation::SimulatedMicroBatch>()?;
    module.add_class::<simulation::Simulation>()?;
    module.add_class::<step_metrics::MetricsFile>()?;
    module.add_class::<strategy::Strategy>()?;
    module.add_class::<survey::Survey>()?;
    module.add_class::<token_budget::TokenBudget>()?;
    Ok(())
}
