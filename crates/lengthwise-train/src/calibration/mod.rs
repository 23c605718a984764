//! The costs of this machine, measured before training starts.
//!
//! Short micro-batches run through the executor itself, on all ranks at once, since ranks may share processors:
//!
//! ```text
//! degree 1, one token a rank               ->  overhead of a micro-batch
//! degree 1, lengths four times apart       ->  linear and quadratic cost of a token
//! degree d, a short length a rank          ->  exchange per token at degree d, inside a node and across nodes
//! the largest degree, ever longer          ->  the same, where the square of the length rules
//! ```

mod fit;
mod layout;

use std::sync::Arc;
use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{
    Bytes, Degree, Group, MicroBatch, Plan, SequenceIndex, Strategy, StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, Span};

use crate::data::{TokenBatch, TokenSequence};
use crate::executor::Executor;
use crate::model::ModelConfig;
use crate::{TrainError, TrainOptions, memory};
use fit::{Observation, fit};
use layout::Layout;

/// No run is started that may take longer, so that a calibration takes a few seconds; on emulated devices, which are
/// slower, it may take longer in proportion.
const LONGEST_RUN_S: f64 = 2.0;

/// The part of a core for which the longest run is meant.
const USUAL_CORE_FRACTION: f64 = 0.25;

/// Runs shorter than this are repeated, and the fastest counts, since other work only ever slows one down.
const REPEATED_BELOW_S: f64 = 0.3;

/// How often short runs are repeated.
const REPEATS: usize = 3;

/// Tokens a rank in the shortest runs.
const SHORT: u64 = 128;

/// The cost model of a run's model on this world, the same on every rank.
///
/// # Errors
///
/// Another rank has failed, or a device is too small for even a short sequence.
pub fn calibrate<C: Communicator>(
    options: &TrainOptions,
    world: &C,
    space: &StrategySpace,
    device_memory: Bytes,
) -> Result<FittedModel, TrainError> {
    let TrainOptions {
        model: config,
        cluster,
        context,
        recompute,
        ..
    } = options;
    let (context, recompute) = (*context, *recompute);
    let degrees: Vec<Degree> = space
        .degrees()
        .filter(|degree| degree.as_usize() <= world.size())
        .collect();
    let executor = Executor::new(config.clone(), world.clone(), 0)?;
    let core_fraction = options.emulation.as_ref().map(|e| e.core_fraction());
    let slowness = core_fraction.map_or(1.0, |part| (USUAL_CORE_FRACTION / part).max(1.0));
    let mut probe = Probe {
        config,
        executor,
        recompute,
        longest_run: LONGEST_RUN_S * slowness,
        overhead: 0.0,
        observations: Vec::new(),
    };
    let fixed_memory = memory::fixed_bytes(config, world.size());
    let longest = |degree| {
        let fitting = (device_memory.as_f64() - fixed_memory)
            / memory::bytes_per_token(config, degree, recompute);
        (fitting as u64).min(context.0).max(1)
    };

    let single = Layout::of(Degree::ONE, cluster);
    probe.overhead = probe.seconds(&single, 1)?;
    probe.lengths(&single, longest(Degree::ONE), 4)?;
    for layout in Layout::exchanging(&degrees, cluster) {
        let degree = layout.degree;
        // Attention on long sequences, and all else that is different where many ranks share one.
        if Some(&degree) == degrees.last() {
            probe.lengths(&layout, longest(degree), 2)?;
        } else {
            let short = SHORT * u64::from(degree.get());
            probe.observe(&layout, short.min(longest(degree)))?;
        }
    }

    let fitted = fit(&probe.observations, config.heads as u32);
    let memory_bytes_per_token = degrees
        .iter()
        .map(|&degree| (degree, memory::bytes_per_token(config, degree, recompute)));
    let exchange_of = |wanted| {
        let of_span = (fitted.exchange.iter()).filter(move |((_, span), _)| *span == wanted);
        of_span.map(|(&(degree, _), &seconds)| (degree, seconds))
    };
    Ok(FittedModel::new(FittedCosts {
        quadratic_s_per_token2: fitted.quadratic,
        linear_s_per_token: fitted.linear,
        num_heads: Some(config.heads as u32),
        exchange_s_per_token: exchange_of(Span::OneNode).collect(),
        many_nodes_exchange_s_per_token: exchange_of(Span::ManyNodes).collect(),
        memory_bytes_per_token: memory_bytes_per_token.collect(),
        fixed_memory_bytes: fixed_memory,
        micro_batch_overhead_s: probe.overhead,
    })?)
}

/// Runs micro-batches to time them.
struct Probe<'a, C: Communicator> {
    config: &'a ModelConfig,
    executor: Executor<C>,
    recompute: bool,
    /// Seconds that no run may take longer than.
    longest_run: f64,
    /// Seconds of a micro-batch with next to nothing to do.
    overhead: f64,
    observations: Vec<Observation>,
}

impl<C: Communicator> Probe<'_, C> {
    /// Observes ever longer sequences, each `growth` times as long, up to `longest` or as far as time allows.
    fn lengths(&mut self, layout: &Layout, longest: u64, growth: u64) -> Result<(), TrainError> {
        let mut seq_len = (SHORT * u64::from(layout.degree.get())).min(longest);
        loop {
            let seconds = self.observe(layout, seq_len)?;
            let next = (seq_len * growth).min(longest);
            // At worst, time grows with the square of the length.
            if next == seq_len
                || seconds * (next as f64 / seq_len as f64).powi(2) > self.longest_run
            {
                return Ok(());
            }
            seq_len = next;
        }
    }

    /// Times sequences of one length, and keeps what it saw.
    fn observe(&mut self, layout: &Layout, seq_len: u64) -> Result<f64, TrainError> {
        let seconds = self.seconds(layout, seq_len)?;
        // The overhead may have been measured in a slower moment.
        let beyond_overhead = (seconds - self.overhead).max(0.1 * seconds);
        self.observations.push(Observation {
            degree: layout.degree,
            span: layout.span,
            seq_len: seq_len as f64,
            seconds: beyond_overhead,
        });
        Ok(seconds)
    }

    /// Seconds of a micro-batch with one sequence of `seq_len` tokens in each group: the time of the slowest rank,
    /// agreed on by all.
    fn seconds(&mut self, layout: &Layout, seq_len: u64) -> Result<f64, TrainError> {
        let world = self.executor.world().clone();
        let num_groups = layout.groups.len();
        let strategy = Strategy::ulysses(layout.degree, self.recompute);
        let groups = (0..)
            .zip(&layout.groups)
            .map(|(index, ranks)| Group {
                strategy,
                ranks: ranks.clone(),
                sequences: vec![SequenceIndex(index)],
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
            // An emulated device takes longer than its thread: only a call waits for it.
            world.barrier()?;
            let seconds = start.elapsed().as_secs_f64();
            let slowest = world.all_reduce_values(&[seconds], ReduceOp::Max)?;
            self.executor.discard_gradients();
            fastest = fastest.min(slowest[0]);
            if fastest > REPEATED_BELOW_S {
                break;
            }
        }
        Ok(fastest)
    }
}
