//! The planning of a step: what a planner is given, and what becomes of its plan.

use std::sync::Arc;

use lengthwise_core::{Cluster, GlobalBatch, StrategySpace};
use lengthwise_cost::StepModel;
use lengthwise_plan::{Planned, Planner};

use lengthwise_data::TokenBatch;

/// A batch and how to run it.
#[derive(Debug)]
pub struct PlannedBatch {
    /// Counted from 1.
    pub step: u64,
    /// The tokens.
    pub batch: TokenBatch,
    /// Their lengths, as they were planned.
    pub global_batch: GlobalBatch,
    /// The plan that they run by.
    pub planned: Planned,
    /// The costs that it was planned with.
    pub costs: Arc<PlanningCosts>,
}

/// The costs that plans are drawn up with, as they are for a while.
#[derive(Clone, Debug)]
pub struct PlanningCosts {
    /// The number of times that they have been refined.
    pub version: u64,
    /// The costs.
    pub model: StepModel,
}

/// The inputs of plans.
pub struct Planning {
    /// The planner.
    pub planner: Arc<dyn Planner>,
    /// Where steps run.
    pub cluster: Cluster,
    /// The costs of steps there, until [`PlanFeed::refine`](super::PlanFeed::refine) says otherwise.
    pub costs: StepModel,
    /// The strategies to choose from.
    pub space: StrategySpace,
}
