//! Runs what the survey asks for, until it has enough.

use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Bytes, Rank, Seconds, StrategySpace};

use super::survey::Survey;
use super::{MeasuredCosts, MeasuringProgress, MeasuringRule};
use crate::executor::Executor;
use crate::timed::Timed;
use crate::timeline::Timeline;
use crate::{TrainError, TrainOptions};

/// Hears how far measuring has come.
pub type Progress<'a> = &'a (dyn Fn(MeasuringProgress) + Sync);

/// One rank's part in measuring.
pub struct Measuring<'a, C: Communicator> {
    options: &'a TrainOptions,
    executor: Executor<Timed<C>>,
    rule: MeasuringRule,
    started: Instant,
    survey: Survey<'a>,
}

impl<'a, C: Communicator> Measuring<'a, C> {
    pub fn new(
        options: &'a TrainOptions,
        world: &C,
        space: &StrategySpace,
        device_memory: Bytes,
        rule: MeasuringRule,
    ) -> Result<Self, TrainError> {
        let started = Instant::now();
        Ok(Measuring {
            executor: Executor::new(
                options.model.clone(),
                Timed::new(world.clone(), Timeline::default()),
                0,
            )?,
            survey: Survey::new(options, space, device_memory, rule)?,
            options,
            rule,
            started,
        })
    }

    /// Measures until the survey knows enough, or time is up.
    pub fn measure(&mut self, progress: Progress<'_>) -> Result<(), TrainError> {
        loop {
            let elapsed = self.elapsed()?;
            self.tell(progress, elapsed)?;
            let Some(subject) = self.survey.next(elapsed)? else {
                return Ok(());
            };
            let trial = self.survey.trial(subject);
            trial.run(&mut self.executor, self.rule.clock, self.started)?;
        }
    }

    /// What came of it.
    pub fn finish(mut self) -> Result<MeasuredCosts, TrainError> {
        let step_overhead = match self.survey.shortest() {
            Some(trial) => trial.step_rest(&mut self.executor, &self.options.optimizer)?,
            None => 0.0,
        };
        let elapsed = self.elapsed()?;
        self.survey.finish(Seconds::new(step_overhead)?, elapsed)
    }

    /// Seconds since the beginning, agreed on by all ranks.
    fn elapsed(&self) -> Result<f64, TrainError> {
        let elapsed = self.started.elapsed().as_secs_f64();
        Ok(self
            .executor
            .world()
            .all_reduce_values(&[elapsed], ReduceOp::Max)?[0])
    }

    fn tell(&self, progress: Progress<'_>, elapsed: f64) -> Result<(), TrainError> {
        if self.executor.world().rank() == Rank(0) {
            progress(MeasuringProgress {
                elapsed: Seconds::new(elapsed)?,
                time_budget: self.rule.time_budget.into(),
                num_trials: self.survey.num_trials(),
                expected_error: self.survey.expected_error(),
            });
        }
        Ok(())
    }
}
