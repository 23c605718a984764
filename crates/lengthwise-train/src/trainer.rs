//! A whole run: calibration, planning in the background, every rank's steps.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use lengthwise_comm::{
    Communicator, FailureCause, RankFailure, ReduceOp, ThreadCommunicator, run_ranks,
    run_ranks_emulated,
};
use lengthwise_core::{Bytes, Cluster, MemoryModel, Rank, Seconds, StrategySpace};
use lengthwise_cost::{CostModel, FittedModel, predict_group};
use lengthwise_plan::Planner;
use lengthwise_tensor::{Backend, CpuBackend};

use crate::checkpoint::CheckpointWriter;
use crate::data::{DataError, TokenBatch};
use crate::executor::Executor;
use crate::feed::{PlanFeed, PlannedBatch, Planning};
use crate::model::ModelSpec;
use crate::options::InjectedFailure;
use crate::timed::Timed;
use crate::{
    RankTime, StepRecord, TrainError, TrainObserver, TrainOptions, TrainSummary, calibration,
    memory, schedule,
};

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
    let cost = match &options.costs {
        Some(costs) => costs.clone(),
        None => measure(options, &space, backends.clone())?,
    };
    let calibration = Seconds::from(start.elapsed());
    observer.calibrated(calibration);

    let planning = Planning {
        planner,
        cluster: options.cluster.clone(),
        cost: Box::new(cost.clone()),
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
        cost,
        feed,
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

/// What sequences cost by [`train`]'s own measurement, which a run is given with [`TrainOptions::costs`].
///
/// # Errors
///
/// As [`train`], but for data and plans.
pub fn measure_costs(options: &TrainOptions) -> Result<FittedModel, TrainError> {
    measure(options, &check(options)?, backends(options))
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
    let space = StrategySpace::ulysses_up_to(options.model.heads as u32, options.recompute)?
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
) -> Result<FittedModel, TrainError> {
    let least = |cluster: &Cluster| cluster.devices().iter().map(|device| device.memory()).min();
    let memory = least(&options.cluster).unwrap_or_default();
    let mut models = run_world(options, backends, |world| {
        calibration::calibrate(options, &world, space, memory)
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
    cost: FittedModel,
    feed: PlanFeed<I>,
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
        let world = Timed::new(world);
        let mut executor = Executor::new(options.model.clone(), world.clone(), options.seed)?;
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
            let start = Instant::now();
            world.backend().reset_peak_memory();
            let outcome = executor.step(
                &planned.planned.plan,
                &planned.batch,
                &options.optimizer,
                options.steps,
            )?;
            // An emulated device takes longer than its thread: only a call waits for it.
            world.barrier()?;
            let elapsed = start.elapsed().into();
            let peak = world.backend().memory().peak.as_f64();
            let (calls, wait) = world.time_in_calls();
            let mine = OwnTimes {
                elapsed,
                calls: calls - calls_before,
                wait: wait - wait_before,
            };
            let (measured, most_held, rank_times) = share_times(&world, mine, peak)?;
            if world.rank() == Rank(0) {
                let (predicted_groups, predicted_overhead) = self.predicted_groups(&planned);
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
                    predicted_groups,
                    predicted_overhead,
                    report: planned.planned.report.clone(),
                    measured,
                    rank_times,
                    plan_wait,
                    measured_peak_memory: most_held,
                    predicted_peak_memory: self.predicted_peak_memory(&planned),
                    num_groups: world.statistics().num_groups,
                };
                reporter
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .step(&record);
            }
        }
        if let Some(directory) = &options.checkpoint {
            executor.write_checkpoint(directory, options.context.0)?;
        }
        Ok(())
    }

    /// What each group was predicted to take, and what each micro-batch beside.
    fn predicted_groups(&self, planned: &PlannedBatch) -> (Vec<Vec<Seconds>>, Seconds) {
        let cluster = &self.options.cluster;
        let of_group = |group| predict_group(group, &planned.global_batch, cluster, &self.cost);
        let micro_batches = planned.planned.plan.micro_batches().iter();
        let groups = micro_batches.map(|micro_batch| {
            let groups = micro_batch.groups.iter();
            groups.map(of_group).collect()
        });
        (groups.collect(), self.cost.micro_batch_overhead())
    }

    /// What the fullest device was predicted to hold at most.
    fn predicted_peak_memory(&self, planned: &PlannedBatch) -> Bytes {
        let groups = planned
            .planned
            .plan
            .micro_batches()
            .iter()
            .flat_map(|micro_batch| &micro_batch.groups);
        let fixed =
            Bytes::from_f64_ceil(self.cost.costs().fixed_memory_bytes).unwrap_or(Bytes(u64::MAX));
        let fullest = groups
            .map(|group| self.cost.group_memory(group, &planned.global_batch))
            .max();
        fixed.saturating_add(fullest.unwrap_or_default())
    }
}

/// A rank's own measurements of a step.
struct OwnTimes {
    elapsed: Seconds,
    calls: Seconds,
    /// The part of the calls in which it waited.
    wait: Seconds,
}

/// The time of the slowest rank, the most that a device held, and what every rank's time went into; the same on all.
fn share_times(
    world: &impl Communicator,
    mine: OwnTimes,
    peak: f64,
) -> Result<(Seconds, Bytes, Vec<RankTime>), TrainError> {
    let me = world.rank().index();
    // A place for each rank's figures: the largest of one of them and zeros is that one.
    let mut values = vec![0.0; 1 + 3 * world.size()];
    values[0] = peak;
    let figures = [mine.elapsed, mine.calls, mine.wait].map(Seconds::get);
    values[1 + 3 * me..4 + 3 * me].copy_from_slice(&figures);
    let values = world.all_reduce_values(&values, ReduceOp::Max)?;
    let ranks = values[1..].chunks_exact(3);
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
    Ok((seconds(step)?, Bytes(values[0] as u64), rank_times))
}
