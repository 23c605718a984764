//! The evaluation of held-out batches by all ranks: plans, which are the same each time, and their loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use lengthwise_comm::{Communicator, ReduceOp, panic_text};
use lengthwise_core::{Cluster, Plan, PlanRules, Seconds, StrategySpace};
use lengthwise_cost::StepModel;
use lengthwise_data::TokenBatch;
use lengthwise_plan::{Planner, Problem};

use crate::executor::Executor;
use crate::stopwatch::Stopwatch;
use crate::{TrainError, Validation, ValidationRecord};

/// The validation of a run, which all ranks share.
pub struct Validating<'a> {
    pub validation: &'a Validation,
    pub planner: Arc<dyn Planner>,
    pub cluster: &'a Cluster,
    pub space: StrategySpace,
    /// Of forward passes.
    pub costs: StepModel,
    /// Whether nobody waits for plans any more.
    pub is_over: AtomicBool,
    /// Drawn up by who comes first.
    pub planned: OnceLock<Result<PlannedValidation, Arc<TrainError>>>,
}

/// Plans of the batches to validate on.
pub struct PlannedValidation {
    plans: Vec<Plan>,
    predicted: Seconds,
}

impl Validating<'_> {
    /// The plans of all batches, waited for if somebody is at them.
    pub fn planned(&self) -> Result<&PlannedValidation, TrainError> {
        let plan = || {
            // Other ranks wait for what comes of it.
            let guarded = catch_unwind(AssertUnwindSafe(|| self.plan()));
            let planned = guarded.unwrap_or_else(|panic| {
                Err(TrainError::ValidationPanicked {
                    planner: self.planner.name(),
                    message: panic_text(&*panic),
                })
            });
            planned.map_err(Arc::new)
        };
        let planned = self.planned.get_or_init(plan).as_ref();
        planned.map_err(|error| TrainError::Shared(Arc::clone(error)))
    }

    fn plan(&self) -> Result<PlannedValidation, TrainError> {
        let mut planned = PlannedValidation {
            plans: Vec::new(),
            predicted: Seconds::ZERO,
        };
        for (batch, tokens) in (1..).zip(self.validation.batches.iter()) {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let global_batch = tokens.global_batch();
            let problem = Problem {
                batch: &global_batch,
                cluster: self.cluster,
                cost: &self.costs.cost,
                space: &self.space,
                rules: PlanRules::default(),
            };
            let found = self.planner.plan(problem);
            let found = found.map_err(|source| TrainError::ValidationPlan { batch, source })?;
            let valid = found.plan.validate(
                &global_batch,
                self.cluster,
                &self.space,
                &self.costs.cost,
                &PlanRules::default(),
            );
            valid.map_err(|source| TrainError::InvalidValidationPlan {
                planner: self.planner.name(),
                batch,
                source,
            })?;
            planned.predicted +=
                (self.costs).predict_step(&found.plan, &global_batch, self.cluster);
            planned.plans.push(found.plan);
        }
        Ok(planned)
    }

    /// The mean loss of all labels; a collective of all ranks.
    pub fn evaluate<C: Communicator>(
        &self,
        executor: &Executor<C>,
    ) -> Result<ValidationRecord, TrainError> {
        let world = executor.world();
        let PlannedValidation { plans, predicted } = self.planned()?;
        world.barrier()?;
        let stopwatch = Stopwatch::start(world);
        let batches: &[TokenBatch] = &self.validation.batches;
        let mut loss_sum = 0.0;
        for (plan, batch) in plans.iter().zip(batches) {
            loss_sum += executor.evaluate(plan, batch)?;
        }
        let loss_sum = world.all_reduce_values(&[loss_sum], ReduceOp::Sum)?[0];
        let elapsed = stopwatch.elapsed(world).get();
        let elapsed = world.all_reduce_values(&[elapsed], ReduceOp::Max)?[0];
        let num_labels = self.validation.num_labels();
        Ok(ValidationRecord {
            loss: loss_sum / num_labels as f64,
            num_labels,
            num_tokens: self.validation.num_tokens(),
            predicted: *predicted,
            measured: Seconds::new(elapsed)?,
        })
    }
}
