//! A whole run: calibration, planning in the background, every rank's steps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use lengthwise_comm::{
    Communicator, FailureCause, RankFailure, ReduceOp, ThreadCommunicator, run_ranks,
    run_ranks_emulated,
};
use lengthwise_core::{Bytes, Cluster, MemoryModel, Rank, Seconds, StrategySpace};
use lengthwise_cost::{
    CostModel, MeasuredMicroBatch, MeasuredStep, Profile, Refinement, StepModel,
};
use lengthwise_plan::Planner;
use lengthwise_tensor::{Backend, CpuBackend};

use crate::checkpoint::CheckpointWriter;
use crate::executor::Executor;
use crate::feed::{PlanFeed, PlannedBatch, Planning};
use crate::model::ModelSpec;
use crate::options::InjectedFailure;
use crate::recent_errors::RecentErrors;
use crate::stopwatch::Stopwatch;
use crate::timed::Timed;
use crate::timeline::{RankNotes, Timeline};
use crate::{
    MeasuredCosts, MeasuringProgress, MeasuringRule, RankTime, StepRecord, TrainError,
    TrainObserver, TrainOptions, TrainSummary, calibration, memory, schedule, trace,
};
use lengthwise_data::{DataError, TokenBatch};

/// Threads that draw up plans while the ranks compute.
const NUM_PLANNING_THREADS: usize = 2;

/// Trains on `batches` with one thread of this process for each device of the cluster.
///
/// First measures what sequences cost here, then plans in the background while the ranks train. The observer hears
/// of every step.
///
/// # Errors
///
/// The options are impossible, before any work starts; a batch can't be read or planned; a device runs out of
/// memory; a rank fails: always the one error that all else follows from.
pub fn train(
    options: &TrainOptions,
    planner: Arc<dyn Planner>,
    batches: impl Iterator<Item = Result<TokenBatch, DataError>> + Send,
    observer: &mut dyn TrainObserver,
) -> Result<TrainSummary, TrainError> {
    let space = check(options)?;
    if let Some(directory) = &options.checkpoint {
        CheckpointWriter::prepare(directory)?;
    }
    let num_ranks = options.cluster.num_devices() as usize;
    let backends = backends(options);

    let start = Instant::now();
    let costs = match &options.costs {
        Some(costs) => costs.clone(),
        None => {
            let brief = MeasuringRule::BRIEF;
            measure(options, &space, backends.clone(), &brief, &|_| {})?.model
        }
    };
    let calibration = Seconds::from(start.elapsed());
    observer.calibrated(calibration);

    let planning = Planning {
        planner,
        cluster: options.cluster.clone(),
        costs: costs.clone(),
        space,
    };
    let feed = PlanFeed::new(
        planning,
        batches,
        num_ranks,
        options.steps,
        options.plan_ahead as u64,
    );
    let num_parameters = ModelSpec::new(&options.model).num_parameters() as u64;
    let summary = TrainSummary {
        num_parameters,
        calibration,
        ..TrainSummary::default()
    };
    let reporter = Mutex::new(Reporter { observer, summary });
    let run = Run {
        options,
        costs,
        feed,
        epoch: Instant::now(),
        notes: Mutex::new(vec![RankNotes::default(); num_ranks]),
    };
    thread::scope(|scope| {
        for _ in 0..NUM_PLANNING_THREADS {
            scope.spawn(|| run.feed.work());
        }
        let result = run_world(options, backends, |world| run.rank(world, &reporter));
        run.feed.close();
        result
    })?;
    Ok(reporter
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .summary)
}

/// What steps cost, measured as [`train`] does or more thoroughly; a run is given it with [`TrainOptions::costs`].
///
/// `progress` hears now and then how far measuring has come, on the thread of some rank.
///
/// # Errors
///
/// As [`train`], but for data and plans.
pub fn measure_costs(
    options: &TrainOptions,
    rule: &MeasuringRule,
    progress: &(dyn Fn(MeasuringProgress) + Sync),
) -> Result<MeasuredCosts, TrainError> {
    measure(options, &check(options)?, backends(options), rule, progress)
}

/// What steps cost by a profile, which a run is given with [`TrainOptions::costs`].
///
/// # Errors
///
/// The options are impossible, or the profile was measured for something else.
pub fn profiled_costs(options: &TrainOptions, profile: &Profile) -> Result<StepModel, TrainError> {
    Ok(calibration::profiled(profile, options, &check(options)?)?)
}

fn backends(options: &TrainOptions) -> Vec<CpuBackend> {
    let devices = options.cluster.devices().iter();
    devices
        .map(|device| CpuBackend::new(device.memory()))
        .collect()
}

/// The strategies that model and cluster allow, if the options make a run at all.
fn check(options: &TrainOptions) -> Result<StrategySpace, TrainError> {
    options.model.check()?;
    if let Some(emulation) = &options.emulation
        && *emulation.cluster() != options.cluster
    {
        return Err(TrainError::OtherClusterEmulated {
            emulated: emulation.cluster().num_devices(),
            num_devices: options.cluster.num_devices(),
        });
    }
    let space = StrategySpace::ulysses_up_to(options.model.heads as u32, options.activations)?
        .limited_to(options.cluster.num_devices())?;
    let space = match &options.degrees {
        Some(degrees) => space.restricted_to(degrees)?,
        None => space,
    };
    let fixed_bytes = memory::fixed_bytes(&options.model, options.cluster.num_devices() as usize);
    let fixed_memory = Bytes::from_f64_ceil(fixed_bytes).unwrap_or(Bytes(u64::MAX));
    for (rank, device) in options.cluster.ranks().zip(options.cluster.devices()) {
        if fixed_memory >= device.memory() {
            return Err(TrainError::ModelTooLarge {
                rank,
                budget: device.memory(),
                fixed_memory,
            });
        }
    }
    Ok(space)
}

fn measure(
    options: &TrainOptions,
    space: &StrategySpace,
    backends: Vec<CpuBackend>,
    rule: &MeasuringRule,
    progress: &(dyn Fn(MeasuringProgress) + Sync),
) -> Result<MeasuredCosts, TrainError> {
    let least = |cluster: &Cluster| cluster.devices().iter().map(|device| device.memory()).min();
    let memory = least(&options.cluster).unwrap_or_default();
    let mut models = run_world(options, backends, |world| {
        calibration::calibrate(options, &world, space, memory, rule, progress)
    })?;
    // Every rank has fitted the same agreed times.
    Ok(models.swap_remove(0))
}

/// Runs `body` on every rank, at the pace of the emulated cluster if there is one.
fn run_world<R: Send>(
    options: &TrainOptions,
    backends: Vec<CpuBackend>,
    body: impl Fn(ThreadCommunicator<CpuBackend>) -> Result<R, TrainError> + Sync,
) -> Result<Vec<R>, TrainError> {
    let results = match &options.emulation {
        Some(emulation) => run_ranks_emulated(backends, emulation, body),
        None => run_ranks(backends, body),
    };
    results.map_err(first_failure)
}

fn first_failure(failure: RankFailure<TrainError>) -> TrainError {
    match failure {
        RankFailure {
            cause: FailureCause::Error(error),
            ..
        } => error,
        RankFailure { rank, cause } => TrainError::RankFailed {
            rank,
            reason: cause.to_string(),
        },
    }
}

struct Reporter<'a> {
    observer: &'a mut dyn TrainObserver,
    summary: TrainSummary,
}

impl Reporter<'_> {
    fn step(&mut self, record: &StepRecord) {
        let summary = &mut self.summary;
        summary.steps += 1;
        summary.num_tokens += record.num_tokens;
        summary.num_sequences += record.num_sequences as u64;
        summary.measured += record.measured;
        summary.plan_wait += record.plan_wait;
        summary.measured_peak_memory = summary
            .measured_peak_memory
            .max(record.measured_peak_memory);
        summary.num_groups = record.num_groups;
        self.observer.step(record);
    }
}

/// What all ranks share.
struct Run<'a, I> {
    options: &'a TrainOptions,
    /// As they are at first.
    costs: StepModel,
    feed: PlanFeed<I>,
    /// When time began for all ranks.
    epoch: Instant,
    /// What the ranks have noted of a step that is traced.
    notes: Mutex<Vec<RankNotes>>,
}

impl<I> Run<'_, I>
where
    I: Iterator<Item = Result<TokenBatch, DataError>> + Send,
{
    /// All steps of one rank.
    fn rank(
        &self,
        world: ThreadCommunicator<CpuBackend>,
        reporter: &Mutex<Reporter<'_>>,
    ) -> Result<(), TrainError> {
        let options = self.options;
        let timeline = self.timeline(&world);
        let world = Timed::new(world, timeline.clone());
        let executor = Executor::new(options.model.clone(), world.clone(), options.seed)?;
        let mut executor = executor.with_timeline(timeline.clone());
        let is_first = world.rank() == Rank(0);
        let rule = options.refinement.filter(|_| is_first);
        let mut refinement = rule.map(|rule| Refinement::new(self.costs.clone(), rule));
        let mut recent_errors = RecentErrors::default();
        for step in 1..=options.steps {
            let Some((planned, plan_wait)) = self.feed.take(step) else {
                return Ok(());
            };
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
            world.barrier()?;
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
            let peak = world.backend().memory().peak.as_f64();
            let mine = OwnTimes {
                really,
                elapsed: emulated.unwrap_or(really),
                calls: calls - calls_before,
                wait: wait - wait_before,
            };
            let AllTimes {
                measured,
                elapsed,
                most_held,
                rank_times,
            } = share_times(&world, mine, peak)?;
            let micro_batches = self.measured_micro_batches(&executor, &planned)?;
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
                    origin: planned.batch.origin,
                    batch: planned.global_batch.clone(),
                    plan: planned.planned.plan.clone(),
                    predicted_groups: self.predicted_groups(&planned),
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
                    measured_peak_memory: most_held,
                    predicted_peak_memory: self.predicted_peak_memory(&planned),
                    num_groups: world.statistics().num_groups,
                };
                let mut reporter = lock(reporter);
                if is_traced {
                    let events = trace::events(&lock(&self.notes));
                    reporter.observer.traced(step, &events);
                }
                reporter.step(&record);
            }
        }
        if let Some(directory) = &options.checkpoint {
            executor.write_checkpoint(directory, options.context.0)?;
        }
        Ok(())
    }

    /// What a rank notes its time on: by the emulated clocks where there are some.
    fn timeline(&self, world: &ThreadCommunicator<CpuBackend>) -> Timeline {
        let (world, epoch) = (world.clone(), self.epoch);
        Timeline::new(move || {
            let emulated = world.emulated_time();
            emulated.unwrap_or_else(|| epoch.elapsed().into())
        })
    }

    /// When each group was predicted to end, without the micro-batch's overhead.
    fn predicted_groups(&self, planned: &PlannedBatch) -> Vec<Vec<Seconds>> {
        let ends = |micro_batch| {
            let model = &planned.costs.model;
            model.group_ends(micro_batch, &planned.global_batch, &self.options.cluster)
        };
        planned
            .planned
            .plan
            .micro_batches()
            .iter()
            .map(ends)
            .collect()
    }

    /// What each micro-batch of the step took, and each group of it; the same on every rank.
    fn measured_micro_batches(
        &self,
        executor: &Executor<impl Communicator>,
        planned: &PlannedBatch,
    ) -> Result<Vec<MeasuredMicroBatch>, TrainError> {
        let world = executor.world();
        let micro_batches = planned.planned.plan.micro_batches();
        // For each micro-batch the whole time, then that of each group.
        let mut times = Vec::new();
        for (micro_batch, time) in micro_batches.iter().zip(executor.micro_batch_times()) {
            times.push(time.whole.get());
            times.extend(micro_batch.groups.iter().map(|group| {
                let is_mine = group.ranks.contains(&world.rank());
                if is_mine { time.worked().get() } else { 0.0 }
            }));
        }
        let times = world.all_reduce_values(&times, ReduceOp::Max)?;
        let times: Result<Vec<Seconds>, _> = times.into_iter().map(Seconds::new).collect();
        let mut times = times?.into_iter();
        let measured = micro_batches.iter().map(|micro_batch| {
            let makespan = times.next().unwrap_or_default();
            let groups = times.by_ref().take(micro_batch.groups.len());
            MeasuredMicroBatch {
                makespan,
                groups: groups.collect(),
            }
        });
        Ok(measured.collect())
    }

    /// What the fullest device was predicted to hold at most.
    fn predicted_peak_memory(&self, planned: &PlannedBatch) -> Bytes {
        let groups = planned
            .planned
            .plan
            .micro_batches()
            .iter()
            .flat_map(|micro_batch| &micro_batch.groups);
        let fixed = Bytes::from_f64_ceil(self.costs.cost.costs().fixed_memory_bytes)
            .unwrap_or(Bytes(u64::MAX));
        let fullest = groups
            .map(|group| self.costs.cost.group_memory(group, &planned.global_batch))
            .max();
        fixed.saturating_add(fullest.unwrap_or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A rank's own measurements of a step.
struct OwnTimes {
    /// Until the slowest rank had ended too, where a cluster is emulated.
    really: Seconds,
    /// By its clock where a cluster is emulated, else the same.
    elapsed: Seconds,
    calls: Seconds,
    /// The part of the calls in which it waited.
    wait: Seconds,
}

/// What ranks have measured of a step; the same on all.
struct AllTimes {
    /// The time of the slowest rank.
    measured: Seconds,
    /// By its clock where a cluster is emulated, else the same.
    elapsed: Seconds,
    /// The most that a device held.
    most_held: Bytes,
    /// What every rank's time went into, which adds up to `elapsed`.
    rank_times: Vec<RankTime>,
}

fn share_times(
    world: &impl Communicator,
    mine: OwnTimes,
    peak: f64,
) -> Result<AllTimes, TrainError> {
    let me = world.rank().index();
    // A place for each rank's figures: the largest of one of them and zeros is that one.
    let mut values = vec![0.0; 2 + 3 * world.size()];
    values[0] = peak;
    values[1] = mine.really.get();
    let figures = [mine.elapsed, mine.calls, mine.wait].map(Seconds::get);
    values[2 + 3 * me..5 + 3 * me].copy_from_slice(&figures);
    let values = world.all_reduce_values(&values, ReduceOp::Max)?;
    let ranks = values[2..].chunks_exact(3);
    let step = ranks.clone().map(|figures| figures[0]).fold(0.0, f64::max);
    let seconds = |figure: f64| Seconds::new(figure.max(0.0));
    let rank_times = ranks.map(|figures| {
        let [elapsed, calls, wait] = [figures[0], figures[1], figures[2]];
        Ok(RankTime {
            compute: seconds(elapsed - calls)?,
            exchange: seconds(calls - wait)?,
            wait: seconds(wait + step - elapsed)?,
        })
    });
    let rank_times = rank_times.collect::<Result<_, TrainError>>()?;
    Ok(AllTimes {
        measured: seconds(values[1])?,
        elapsed: seconds(step)?,
        most_held: Bytes(values[0] as u64),
        rank_times,
    })
}
