//! Going on from a state, and saving one.

use std::time::Instant;

use lengthwise_comm::Communicator;
use lengthwise_core::{Rank, Seconds, StrategySpace};
use lengthwise_cost::{Refinement, StepModel};

use crate::checkpoint::{CheckpointError, CostsRecord, SaveMoment, Saver};
use crate::executor::Executor;
use crate::feed::PlannedBatch;
use crate::{TrainError, TrainOptions};

/// The costs of steps at first, and their refinement, where the options or the state that is gone on from say so.
pub struct KnownCosts {
    /// As they were measured; `None` to measure them.
    pub first: Option<StepModel>,
    /// Factors of the coefficients, and of what a step takes beside its micro-batches.
    factors: Option<(Vec<f64>, f64)>,
    /// A warning of costs that were dropped.
    pub warning: Option<String>,
}

impl KnownCosts {
    pub fn of(options: &TrainOptions, space: &StrategySpace) -> Self {
        let given = options.costs.clone();
        let nothing = |warning: Option<&str>| KnownCosts {
            first: given.clone(),
            factors: None,
            warning: warning.map(str::to_owned),
        };
        let Some(checkpoint) = &options.persistence.resume else {
            return nothing(None);
        };
        let Some(record) = &checkpoint.record().costs else {
            return nothing(Some("the checkpoint holds no costs of steps"));
        };
        if !record.hold_for(options, space) {
            return nothing(Some(
                "the checkpoint's costs are of other devices or strategies; they are left out",
            ));
        }
        let Some(saved) = record.model(options) else {
            return nothing(Some(
                "the checkpoint's costs are no costs of steps; they are left out",
            ));
        };
        if given.as_ref().is_some_and(|given| *given != saved) {
            return nothing(Some(
                "the profile is another one than the checkpoint's; its costs are left out",
            ));
        }
        let factors = record.factors.clone();
        KnownCosts {
            first: Some(saved),
            factors: factors.map(|factors| (factors, record.step_overhead_factor)),
            warning: None,
        }
    }

    /// The refinement of these costs, if they are refined.
    pub fn refinement(&self, options: &TrainOptions, first: &StepModel) -> Option<Refinement> {
        let rule = options.refinement?;
        let resumed = self.factors.as_ref().and_then(|(factors, overhead)| {
            Refinement::resumed(first.clone(), rule, factors, *overhead)
        });
        Some(resumed.unwrap_or_else(|| Refinement::new(first.clone(), rule)))
    }
}

/// The step behind which a run begins; 0 for a new one.
///
/// # Errors
///
/// It is beyond the run's last one.
pub fn first_step(options: &TrainOptions) -> Result<u64, TrainError> {
    let Some(checkpoint) = &options.persistence.resume else {
        return Ok(0);
    };
    let step = checkpoint.record().step;
    if step > options.steps {
        return Err(CheckpointError::Beyond {
            directory: checkpoint.directory().to_owned(),
            step,
            steps: options.steps,
        }
        .into());
    }
    Ok(step)
}

/// Saves the state behind a step; a call of all ranks. Says for how long this rank's training stood still.
///
/// # Errors
///
/// A parameter is no number: a state that can't be gone on from must not take the place of one that can.
pub fn save(
    saver: &Saver<'_>,
    options: &TrainOptions,
    executor: &Executor<impl Communicator>,
    planned: &PlannedBatch,
    space: &StrategySpace,
    first: &StepModel,
    refinement: Option<&Refinement>,
) -> Result<Seconds, TrainError> {
    let step = planned.step;
    let start = Instant::now();
    let position = planned.batch.end.ok_or(TrainError::NoPosition { step })?;
    if !executor.is_finite()? {
        return Err(TrainError::NoModel { step });
    }
    let rank = executor.world().rank();
    let is_first = rank == Rank(0);
    let costs = || CostsRecord::new(options, space, first, refinement);
    let moment = SaveMoment {
        step,
        position,
        costs: is_first.then(costs),
    };
    if saver.is_async() {
        saver.save(rank.index(), moment, || executor.state());
    } else {
        saver.save(rank.index(), moment, || executor.state_in_place());
        executor.world().barrier()?;
        saver.wait();
    }
    Ok(start.elapsed().into())
}
