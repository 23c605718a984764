//! Runs what the survey asks for, until it has enough.

use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Rank, Seconds};
use lengthwise_survey::{MeasuredCosts, Survey, Surveyed};

use super::running;
use super::{MeasuringProgress, MeasuringRule};
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
    survey: Survey,
}

impl<'a, C: Communicator> Measuring<'a, C> {
    pub fn new(
        options: &'a TrainOptions,
        world: &C,
        surveyed: Surveyed,
        rule: MeasuringRule,
    ) -> Result<Self, TrainError> {
        let started = Instant::now();
        Ok(Measuring {
            executor: Executor::new(
                options.model.clone(),
                Timed::new(world.clone(), Timeline::default()),
                0,
            )?,
            survey: Survey::new(surveyed, rule.survey),
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
            let trial = self.survey.trial_mut(subject);
            running::run(trial, &mut self.executor, self.rule.clock, self.started)?;
        }
    }

    /// Its result.
    pub fn finish(mut self) -> Result<MeasuredCosts, TrainError> {
        let step_overhead = match self.survey.shortest() {
            Some(trial) => running::step_rest(trial, &mut self.executor, &self.options.optimizer)?,
            None => 0.0,
        };
        let elapsed = self.elapsed()?;
        Ok(self.survey.finish(Seconds::new(step_overhead)?, elapsed)?)
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
                time_budget: self.rule.survey.time_budget.into(),
                num_trials: self.survey.num_trials(),
                expected_error: self.survey.expected_error(),
            });
        }
        Ok(())
    }
}
