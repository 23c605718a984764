//! The times of a step, measured on each rank and then known to all.

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Bytes, Seconds};
use lengthwise_cost::MeasuredMicroBatch;

use crate::executor::Executor;
use crate::feed::PlannedBatch;
use crate::{RankTime, TrainError};

/// A rank's own measurements of a step.
pub struct OwnTimes {
    /// Until the slowest rank had ended too, where a cluster is emulated.
    pub really: Seconds,
    /// By its clock where a cluster is emulated, else the same.
    pub elapsed: Seconds,
    pub calls: Seconds,
    /// The part of the calls in which it waited.
    pub wait: Seconds,
    /// The most that its device held.
    pub peak_memory: Bytes,
    /// The most that its device held on its host.
    pub peak_host_memory: Bytes,
    /// Whether it has heard that the run is to end.
    pub is_asked_to_stop: bool,
}

/// The ranks' measurements of a step; the same on all.
pub struct AllTimes {
    /// The time of the slowest rank.
    pub measured: Seconds,
    /// By its clock where a cluster is emulated, else the same.
    pub elapsed: Seconds,
    /// The most that a device held.
    pub peak_memory: Bytes,
    /// The most that a device held on its host.
    pub peak_host_memory: Bytes,
    /// The parts of every rank's time, which add up to `elapsed`.
    pub rank_times: Vec<RankTime>,
    /// Whether some rank has heard that the run is to end: all must end behind the same step.
    pub stops: bool,
}

pub fn share_times(world: &impl Communicator, mine: OwnTimes) -> Result<AllTimes, TrainError> {
    let me = world.rank().index();
    // A place for each rank's figures: the largest of one of them and zeros is that one.
    let mut values = vec![
        mine.peak_memory.as_f64(),
        mine.peak_host_memory.as_f64(),
        mine.really.get(),
        f64::from(u8::from(mine.is_asked_to_stop)),
    ];
    let num_common = values.len();
    values.resize(num_common + 3 * world.size(), 0.0);
    let figures = [mine.elapsed, mine.calls, mine.wait].map(Seconds::get);
    values[num_common + 3 * me..][..3].copy_from_slice(&figures);
    let values = world.all_reduce_values(&values, ReduceOp::Max)?;
    let (common, ranks) = values.split_at(num_common);
    let ranks = ranks.chunks_exact(3);
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
        measured: seconds(common[2])?,
        elapsed: seconds(step)?,
        peak_memory: Bytes(common[0] as u64),
        peak_host_memory: Bytes(common[1] as u64),
        rank_times,
        stops: common[3] > 0.0,
    })
}

/// The time of each micro-batch of the step, and of each group of it; the same on every rank.
pub fn measured_micro_batches(
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
