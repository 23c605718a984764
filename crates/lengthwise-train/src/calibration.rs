//! The costs of this machine, measured before training starts.
//!
//! Short micro-batches run through the executor itself, on all ranks at once, since ranks may share processors:
//!
//! ```text
//! degree 1, one token a rank         ->  overhead of a micro-batch
//! degree 1, two lengths              ->  linear and quadratic cost of a token
//! degree d, the shorter of the two   ->  exchange per token at degree d
//! ```

use std::sync::Arc;
use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{
    Bytes, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy, StrategySpace, Tokens,
};
use lengthwise_cost::{FittedCosts, FittedModel};

use crate::data::{TokenBatch, TokenSequence};
use crate::executor::Executor;
use crate::model::ModelConfig;
use crate::{TrainError, memory};

/// A measured run should take this long: far above the clock's and the scheduler's jitter.
const TARGET_S: f64 = 0.25;

/// How often each point is measured; the fastest run counts, since other work only ever slows one down.
const REPEATS: usize = 2;

/// Smallest of the lengths from which linear and quadratic cost are told apart.
const SHORT: u64 = 128;

/// The cost model of `config` on this world, the same on every rank.
///
/// # Errors
///
/// Another rank has failed, or a device is too small for even a short sequence.
pub fn calibrate<C: Communicator>(
    config: &ModelConfig,
    world: &C,
    space: &StrategySpace,
    device_memory: Bytes,
    context: Tokens,
    recompute: bool,
) -> Result<FittedModel, TrainError> {
    let mut probe = Probe {
        config,
        executor: Executor::new(config.clone(), world.clone(), 0)?,
        recompute,
    };
    let fixed_memory = memory::fixed_bytes(config, world.size());
    let local_bytes = memory::bytes_per_token(config, Degree::ONE, recompute);
    let fitting = ((device_memory.as_f64() - fixed_memory) / local_bytes) as u64;
    let longest = fitting.min(context.0).max(1);

    let overhead = probe.seconds(Degree::ONE, 1)?;
    let short = SHORT.min(longest);
    let short_s = probe.seconds(Degree::ONE, short)? - overhead;
    // As long as the target time allows, were the time to grow with the square of the length.
    let growth = (TARGET_S / short_s.max(1e-6)).sqrt().clamp(2.0, 64.0);
    let long = ((short as f64 * growth) as u64).min(longest);
    let long_s = if long > short {
        probe.seconds(Degree::ONE, long)? - overhead
    } else {
        short_s
    };
    let (linear, quadratic) = linear_and_quadratic((short as f64, short_s), (long as f64, long_s));

    let mut exchange = Vec::new();
    let degrees: Vec<Degree> = space
        .degrees()
        .filter(|&degree| degree.as_usize() <= world.size())
        .collect();
    for &degree in degrees
        .iter()
        .filter(|degree| is_probed(**degree, &degrees))
    {
        let ranks = f64::from(degree.get());
        // As many tokens a rank as in the short run, so that only exchange and head imbalance differ.
        let seq_len = (short * u64::from(degree.get())).min(context.0).max(1);
        let tokens = seq_len as f64;
        let heads = config.heads as f64;
        let imbalance = (heads / ranks).ceil() * ranks / heads;
        let compute = (quadratic * imbalance * tokens * tokens + linear * tokens) / ranks;
        let measured = probe.seconds(degree, seq_len)? - overhead;
        // Never free, so that of two plans that seem equal the one that exchanges less is chosen.
        exchange.push((
            degree,
            ((measured - compute) / tokens).max(1e-3 * linear / ranks),
        ));
    }
    let memory_bytes_per_token = degrees
        .iter()
        .map(|&degree| (degree, memory::bytes_per_token(config, degree, recompute)))
        .collect();
    Ok(FittedModel::new(FittedCosts {
        quadratic_s_per_token2: quadratic,
        linear_s_per_token: linear,
        num_heads: Some(config.heads as u32),
        exchange_s_per_token: exchange,
        many_nodes_exchange_s_per_token: Vec::new(),
        memory_bytes_per_token,
        fixed_memory_bytes: fixed_memory,
        micro_batch_overhead_s: overhead,
    })?)
}

/// Powers of two and the largest degree; the others are interpolated.
fn is_probed(degree: Degree, degrees: &[Degree]) -> bool {
    degree > Degree::ONE && (degree.get().is_power_of_two() || degrees.last() == Some(&degree))
}

/// `(a, b)` of `a s + b s^2` through two points, neither negative.
fn linear_and_quadratic(short: (f64, f64), long: (f64, f64)) -> (f64, f64) {
    let rate = |(tokens, seconds): (f64, f64)| seconds.max(1e-9) / tokens;
    if long.0 <= short.0 {
        return (rate(short), 0.0);
    }
    let quadratic = (rate(long) - rate(short)) / (long.0 - short.0);
    let linear = rate(short) - quadratic * short.0;
    if quadratic < 0.0 {
        (rate(long), 0.0)
    } else if linear < 0.0 {
        (0.0, rate(long) / long.0)
    } else {
        (linear, quadratic)
    }
}

/// Runs micro-batches to time them.
struct Probe<'a, C: Communicator> {
    config: &'a ModelConfig,
    executor: Executor<C>,
    recompute: bool,
}

impl<C: Communicator> Probe<'_, C> {
    /// Seconds of a micro-batch with one sequence of `seq_len` tokens in each group of `degree`, on as many groups
    /// as there is room for: the time of the slowest rank, agreed on by all.
    fn seconds(&mut self, degree: Degree, seq_len: u64) -> Result<f64, TrainError> {
        let world = self.executor.world().clone();
        let num_groups = world.size() / degree.as_usize();
        let strategy = Strategy::ulysses(degree, self.recompute);
        let groups = (0..num_groups as u32)
            .map(|group| Group {
                strategy,
                ranks: (group * degree.get()..(group + 1) * degree.get())
                    .map(Rank)
                    .collect(),
                sequences: vec![SequenceIndex(group)],
            })
            .collect();
        let plan = Plan::new(vec![MicroBatch { groups }]);
        let vocab = self.config.vocab as u64;
        let ids: Arc<[u32]> = (0..=seq_len)
            .map(|place| (place * 7919 % vocab) as u32)
            .collect();
        let batch = TokenBatch::new(vec![TokenSequence::new(ids); num_groups]);
        let mut fastest = f64::INFINITY;
        for _ in 0..REPEATS {
            world.barrier()?;
            let start = Instant::now();
            self.executor.accumulate_gradients(&plan, &batch)?;
            let slowest =
                world.all_reduce_values(&[start.elapsed().as_secs_f64()], ReduceOp::Max)?;
            fastest = fastest.min(slowest[0]);
            self.executor.discard_gradients();
        }
        Ok(fastest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_points_give_back_the_coefficients_they_lie_on() {
        let time = |tokens: f64| (tokens, 3e-6 * tokens + 2e-9 * tokens * tokens);
        let (linear, quadratic) = linear_and_quadratic(time(100.0), time(1000.0));
        assert!((linear / 3e-6 - 1.0).abs() < 1e-9);
        assert!((quadratic / 2e-9 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn coefficients_are_never_negative() {
        assert_eq!(linear_and_quadratic((10.0, 1.0), (100.0, 5.0)), (0.05, 0.0));
        assert_eq!(
            linear_and_quadratic((10.0, 1e-3), (100.0, 5.0)),
            (0.0, 5e-4)
        );
        assert_eq!(linear_and_quadratic((10.0, 1.0), (10.0, 1.0)), (0.1, 0.0));
    }
}
