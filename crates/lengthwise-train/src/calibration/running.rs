//! Runs a survey's micro-batches on all ranks.

use std::sync::Arc;
use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::Seconds;
use lengthwise_cost::MeasuredParts;
use lengthwise_data::{TokenBatch, TokenSequence};
use lengthwise_survey::{REPEATED_BELOW_S, REPEATS, Trial};
use lengthwise_tensor::Backend;

use super::clock::{Clock, Moment};
use crate::executor::Executor;
use crate::stopwatch::Stopwatch;
use crate::timed::Timed;
use crate::{OptimizerConfig, Schedule, TrainError};

/// Runs it on all ranks, which agree on what it took; a short one several times.
pub fn run<C: Communicator>(
    trial: &mut Trial,
    executor: &mut Executor<Timed<C>>,
    clock: Clock,
    started: Instant,
) -> Result<(), TrainError> {
    let batch = batch(trial, executor.config().vocab);
    let world = executor.world().clone();
    let mut all_seconds = Vec::new();
    let mut fastest_s = f64::INFINITY;
    let begun_s = started.elapsed().as_secs_f64();
    for _ in 0..REPEATS {
        world.barrier()?;
        world.backend().reset_peak_memory();
        let (start, stopwatch) = (Moment::now(), Stopwatch::start(&world));
        let (calls_before, _) = world.time_in_calls();
        executor.accumulate_gradients(trial.plan(), &batch)?;
        let in_calls = world.time_in_calls().0 - calls_before;
        // By its clock, an emulated device takes no longer where the machine is busy.
        let emulated = stopwatch.emulated(&world);
        world.barrier()?;
        let seconds = emulated.map_or_else(|| clock.seconds_since(start), |time| time.get());
        let peak = world.backend().memory().peak.as_f64();
        let most = world.all_reduce_values(&[seconds, peak], ReduceOp::Max)?;
        let parts = mean_parts(trial, executor, in_calls)?;
        executor.discard_gradients();
        trial.record_peak_memory(most[1]);
        // The clock's resolution is the least that anything takes.
        let seconds = most[0].max(1e-9);
        all_seconds.push(seconds);
        fastest_s = fastest_s.min(seconds);
        trial.record_parts(parts, seconds);
        if fastest_s > REPEATED_BELOW_S {
            break;
        }
    }
    let half_done_s = (begun_s + started.elapsed().as_secs_f64()) / 2.0;
    let at = world.all_reduce_values(&[half_done_s], ReduceOp::Max)?[0];
    trial.record(at, &all_seconds)?;
    Ok(())
}

/// Seconds that a step with this micro-batch takes beside it: the least of several.
pub fn step_rest<C: Communicator>(
    trial: &Trial,
    executor: &mut Executor<C>,
    optimizer: &OptimizerConfig,
) -> Result<f64, TrainError> {
    let batch = batch(trial, executor.config().vocab);
    let world = executor.world().clone();
    let mut least = f64::INFINITY;
    // A rate of 0 takes as long and leaves the parameters alone: what is measured must not diverge.
    let still = OptimizerConfig {
        learning_rate: 0.0,
        schedule: Schedule::Constant,
        ..optimizer.clone()
    };
    for _ in 0..REPEATS {
        world.barrier()?;
        let stopwatch = Stopwatch::start(&world);
        executor.step(trial.plan(), &batch, &still, u64::from(REPEATS))?;
        let whole = stopwatch.elapsed(&world).get();
        let micro_batches = executor.micro_batch_times().iter();
        let micro_batches: f64 = micro_batches.map(|time| time.whole.get()).sum();
        // As in training: the step of the slowest rank, without the longest micro-batches.
        let most = world.all_reduce_values(&[whole, micro_batches], ReduceOp::Max)?;
        least = least.min((most[0] - most[1]).max(0.0));
    }
    Ok(least)
}

fn batch(trial: &Trial, vocab: usize) -> TokenBatch {
    let sequence = |&seq_len: &u64| {
        let ids = 0..=seq_len;
        let ids: Arc<[u32]> = ids
            .map(|place| (place * 7919 % vocab as u64) as u32)
            .collect();
        TokenSequence::new(ids)
    };
    TokenBatch::new(trial.seq_lens().iter().map(sequence).collect())
}

/// The mean over the ranks that have work, one of which is told how long it was in calls to others.
fn mean_parts<C: Communicator>(
    trial: &Trial,
    executor: &Executor<Timed<C>>,
    in_calls: Seconds,
) -> Result<MeasuredParts, TrainError> {
    let world = executor.world();
    let is_active = trial
        .groups()
        .any(|group| group.ranks.contains(&world.rank()));
    let mut mine = [0.0; 6];
    for time in executor.micro_batch_times().iter().filter(|_| is_active) {
        let parts = [
            time.forward,
            time.backward,
            time.ends,
            time.gather,
            time.scatter,
            // All other calls are exchanges.
            in_calls - time.gather - time.scatter,
        ];
        for (sum, part) in mine.iter_mut().zip(parts) {
            *sum += part.get() / f64::from(trial.num_active());
        }
    }
    let sums = world.all_reduce_values(&mine, ReduceOp::Sum)?;
    Ok(MeasuredParts {
        forward_s: sums[0],
        backward_s: sums[1],
        ends_s: sums[2],
        gather_s: sums[3],
        scatter_s: sums[4],
        exchange_s: sums[5],
    })
}
