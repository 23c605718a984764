//! The steps of each rank.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lengthwise_comm::{Communicator, ThreadCommunicator};
use lengthwise_core::{Rank, Seconds, StrategySpace};
use lengthwise_cost::{CostModel, MeasuredStep, RecentErrors, Refinement, StepModel};
use lengthwise_outputs::NewDirectory;
use lengthwise_tensor::{Backend, CpuBackend};

use super::persistence::save;
use super::predictions::{predicted_groups, predicted_peak_host_memory, predicted_peak_memory};
use super::reporter::Reporter;
use super::step_times::{AllTimes, OwnTimes, measured_micro_batches, share_times};
use super::validating::Validating;
use crate::checkpoint::Saver;
use crate::companions::Companions;
use crate::executor::Executor;
use crate::feed::PlanFeed;
use crate::options::InjectedFailure;
use crate::stopwatch::Stopwatch;
use crate::timed::Timed;
use crate::timeline::{RankNotes, Timeline};
use crate::{StepRecord, TrainError, TrainOptions, schedule, trace};
use lengthwise_data::{DataError, TokenBatch};

/// The parts of a run that all ranks share.
pub struct Run<'a, I> {
    pub options: &'a TrainOptions,
    /// The strategies to choose from.
    pub space: StrategySpace,
    /// As they are at first.
    pub costs: StepModel,
    /// Their refinement by steps; rank 0 goes on with a copy.
    pub refinement: Option<Refinement>,
    /// The step behind which the run begins.
    pub behind: u64,
    /// Where its state is saved.
    pub saver: Option<Saver<'a>>,
    pub feed: PlanFeed<I>,
    pub validating: Option<Validating<'a>>,
    /// Where rank 0 writes the model.
    pub claimed: Mutex<Option<NewDirectory>>,
    /// When time began for all ranks.
    pub epoch: Instant,
    /// The ranks' notes of a step that is traced.
    pub notes: Mutex<Vec<RankNotes>>,
}

impl<I> Run<'_, I>
where
    I: Iterator<Item = Result<TokenBatch, DataError>> + Send,
{
    /// All steps of one rank.
    pub fn rank(
        &self,
        world: ThreadCommunicator<CpuBackend>,
        reporter: &Mutex<Reporter<'_>>,
    ) -> Result<(), TrainError> {
        let options = self.options;
        let timeline = self.timeline(&world);
        let world = Timed::new(world, timeline.clone());
        let executor = match (&options.persistence.resume, &options.pretrained) {
            (Some(checkpoint), _) => Executor::resumed(checkpoint, world.clone())?,
            (None, Some(model)) => Executor::pretrained(model, world.clone())?,
            (None, None) => Executor::new(options.model.clone(), world.clone(), options.seed)?,
        };
        let mut executor = executor.with_timeline(timeline.clone());
        let is_first = world.rank() == Rank(0);
        let mut refinement = self.refinement.clone().filter(|_| is_first);
        let mut recent_errors = RecentErrors::default();
        for step in self.behind + 1..=options.steps {
            let Some((planned, plan_wait)) = self.feed.take(step) else {
                return Ok(());
            };
            // Before anybody fails: behind it, rank 0 has told of the step before, which everybody has finished.
            world.barrier()?;
            let planned = planned.map_err(TrainError::Shared)?;
            if options.injected_failure
                == Some(InjectedFailure {
                    rank: world.rank(),
                    step,
                })
            {
                return Err(TrainError::InjectedFailure {
                    rank: world.rank(),
                    step,
                });
            }
            let (calls_before, wait_before) = world.time_in_calls();
            let is_traced = options.traced_steps.contains(&step);
            if is_traced {
                timeline.start();
            }
            let stopwatch = Stopwatch::start(&world);
            world.backend().reset_peak_memory();
            let outcome = executor.step(
                &planned.planned.plan,
                &planned.batch,
                &options.optimizer,
                options.steps,
            )?;
            let emulated = stopwatch.emulated(&world);
            let (calls, wait) = world.time_in_calls();
            if emulated.is_some() {
                // An emulated device takes longer than its thread, and only a call waits for it.
                world.barrier()?;
            }
            let really = stopwatch.really();
            if is_traced {
                // Before the next call of all ranks: behind it, rank 0 has the notes of everyone.
                lock(&self.notes)[world.rank().index()] = timeline.take();
            }
            let backend = world.backend();
            let mine = OwnTimes {
                really,
                elapsed: emulated.unwrap_or(really),
                calls: calls - calls_before,
                wait: wait - wait_before,
                peak_memory: backend.memory().peak,
                peak_host_memory: backend.moved_memory().peak,
                is_asked_to_stop: options.persistence.stop.is_asked(),
            };
            let AllTimes {
                measured,
                elapsed,
                peak_memory,
                peak_host_memory,
                rank_times,
                stops,
            } = share_times(&world, mine)?;
            let micro_batches = measured_micro_batches(&executor, &planned)?;
            if let Some(refinement) = &mut refinement {
                let makespans: Seconds = micro_batches.iter().map(|one| one.makespan).sum();
                let refined = refinement.observe(MeasuredStep {
                    plan: &planned.planned.plan,
                    batch: &planned.global_batch,
                    cluster: &options.cluster,
                    micro_batches: &micro_batches,
                    rest: elapsed - makespans,
                })?;
                self.feed.refine(refined.clone());
            }
            let due = (self.validating.as_ref())
                .filter(|validating| validating.validation.is_due(step, options.steps));
            let validation = due.map(|validating| validating.evaluate(&executor));
            let validation = validation.transpose()?;
            if is_first {
                let costs = &planned.costs.model;
                let predicted = costs.predict_step(
                    &planned.planned.plan,
                    &planned.global_batch,
                    &options.cluster,
                );
                let record = StepRecord {
                    step,
                    loss: outcome.loss,
                    gradient_norm: outcome.gradient_norm,
                    learning_rate: schedule::learning_rate(&options.optimizer, step, options.steps),
                    num_sequences: planned.global_batch.num_sequences(),
                    num_tokens: planned.global_batch.num_tokens().0,
                    num_labels: planned.batch.num_labels(),
                    origin: planned.batch.origin,
                    batch: planned.global_batch.clone(),
                    plan: planned.planned.plan.clone(),
                    predicted_groups: predicted_groups(&planned, &options.cluster),
                    predicted_overhead: costs.cost.micro_batch_overhead(),
                    predicted_step_overhead: costs.step_overhead,
                    report: planned.planned.report.clone(),
                    predicted,
                    recent_error: recent_errors.add(predicted / elapsed - 1.0),
                    costs_version: planned.costs.version,
                    measured,
                    emulated: emulated.map(|_| elapsed),
                    rank_times,
                    plan_wait,
                    measured_peak_memory: peak_memory,
                    predicted_peak_memory: predicted_peak_memory(&planned, &self.costs),
                    measured_peak_host_memory: peak_host_memory,
                    predicted_peak_host_memory: predicted_peak_host_memory(&planned, &self.costs),
                    num_groups: world.statistics().num_groups,
                    validation,
                };
                let mut reporter = lock(reporter);
                if is_traced {
                    let events = trace::events(&lock(&self.notes));
                    reporter.observer.traced(step, &events);
                }
                reporter.step(&record);
            }
            if let Some(saver) = &self.saver
                && (stops || saver.is_due(step))
            {
                let first = &self.costs;
                let held = save(
                    saver,
                    options,
                    &executor,
                    &planned,
                    &self.space,
                    first,
                    refinement.as_ref(),
                )?;
                if is_first {
                    lock(reporter).summary.saving += held;
                }
            }
            // Without a state that it could go on from, a run goes on.
            if stops && self.saver.is_some() && step < options.steps {
                lock(reporter).summary.stopped = Some(step);
                return Ok(());
            }
        }
        // The last update's parameters go through no forward pass that would find out.
        if !executor.is_finite()? {
            return Err(TrainError::NoModel {
                step: options.steps,
            });
        }
        if options.export.is_some() {
            let companions = Companions::of_run(options);
            let claimed = is_first.then(|| lock(&self.claimed).take()).flatten();
            let written =
                executor.export(claimed, options.context.0, options.weights, companions)?;
            if let Some(written) = written {
                lock(reporter).summary.export = Some(written.map_err(Arc::new));
            }
        }
        Ok(())
    }

    /// The timeline that a rank notes its time on: by the emulated clocks where there are some.
    fn timeline(&self, world: &ThreadCommunicator<CpuBackend>) -> Timeline {
        let (world, epoch) = (world.clone(), self.epoch);
        Timeline::new(move || {
            let emulated = world.emulated_time();
            emulated.unwrap_or_else(|| epoch.elapsed().into())
        })
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
