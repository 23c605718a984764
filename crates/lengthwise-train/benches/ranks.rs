//! The cost of distribution: processor time of one batch on 1 rank and on 8, and in plans between; and of one sequence
//! on 8 ranks that share it in any way, beside Ulysses.
//!
//! A block of hidden 512, 8 heads, FFN 1376, and 4,096 tokens, forward and backward through the executor. Ranks are
//! threads that share this machine's cores, so wall time says nothing; the processor time of the whole process
//! does. Each plan's share is that of the pairs of runs, in turn with the single rank, so that a machine whose speed
//! drifts drifts for both.
//!
//! `cargo bench -p lengthwise-train --bench ranks`, with `-- strategies` for the second table alone

#![allow(
    clippy::print_stdout,
    reason = "a benchmark reports on standard output"
)]

use std::sync::Arc;
use std::time::Duration;

use lengthwise_comm::{Communicator, run_ranks};
use lengthwise_core::{
    Activations, Bytes, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy,
};
use lengthwise_data::{TokenBatch, TokenSequence};
use lengthwise_tensor::CpuBackend;
use lengthwise_train::{Executor, Family, ModelConfig, Rope};
use rustix::time::{ClockId, clock_gettime};

/// Pairs of runs behind each median.
const RUNS: usize = 5;

fn main() {
    let model = ModelConfig {
        vocab: 257,
        hidden: 512,
        layers: 1,
        heads: 8,
        kv_heads: 8,
        ffn: 1376,
        head_dim: 64,
        rope: Rope::plain(1e4),
        norm_epsilon: 1e-5,
        tied_output: false,
        family: Family::LLAMA,
    };
    if !std::env::args().any(|argument| argument == "strategies") {
        compare_plans(&model);
    }
    compare_strategies(&model);
}

/// Sequences on 8 ranks in rings, alone and with Ulysses inside, beside Ulysses alone.
fn compare_strategies(model: &ModelConfig) {
    println!("the same block, one sequence on 8 ranks: Ulysses, rings, and Ulysses inside rings");
    println!(
        "{:>8} {:>6} {:>10} {:>10} {:>7}",
        "tokens", "pairs", "strategy", "CPU time", "ratio"
    );
    let strategy = |ulysses, ring| {
        let degree = |degree| Degree::new(degree).unwrap_or(Degree::ONE);
        Strategy::new(degree(ulysses), degree(ring), Activations::Keep)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let ulysses = strategy(8, 1);
    for (num_tokens, num_pairs) in [(4096, 7), (16_384, 1), (32_768, 1)] {
        let batch = batch(&[num_tokens], model.vocab);
        let seconds = |strategy| cpu_seconds(model, 8, &one_group(strategy), &batch);
        for other in [strategy(4, 2), strategy(2, 4), strategy(1, 8)] {
            let pairs = (0..num_pairs).map(|_| (seconds(ulysses), seconds(other)));
            let (one, many) = median_ratio(pairs.collect());
            println!(
                "{num_tokens:>8} {num_pairs:>6} {:>10} {many:>8.3} s {:>7.3}",
                other.to_string().replace(" keep", ""),
                many / one
            );
        }
    }
}

fn median_ratio(mut pairs: Vec<(f64, f64)>) -> (f64, f64) {
    pairs.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    pairs[pairs.len() / 2]
}

/// One micro-batch with one group, which has the only sequence.
fn one_group(strategy: Strategy) -> Plan {
    let group = Group {
        strategy,
        ranks: (0..strategy.degree().get()).map(Rank).collect(),
        sequences: vec![SequenceIndex(0)],
    };
    Plan::new(vec![MicroBatch {
        groups: vec![group],
    }])
}

fn compare_plans(model: &ModelConfig) {
    println!(
        "one block, hidden 512, 8 heads, FFN 1376; forward, recomputation and backward; medians of {RUNS} pairs"
    );
    println!(
        "{:<26} {:<12} {:>10} {:>10} {:>7}",
        "sequences", "plan", "1 rank", "CPU time", "ratio"
    );
    let equal: Vec<u64> = vec![512; 8];
    for (seq_lens, degrees) in [
        (vec![4096], vec![8]),
        (vec![2048, 1024, 512, 512], vec![4, 2, 1, 1]),
        (equal.clone(), vec![8]),
        (equal, vec![1; 8]),
    ] {
        let batch = batch(&seq_lens, model.vocab);
        let single = plan(&[1], seq_lens.len());
        let several = plan(&degrees, seq_lens.len());
        let num_ranks = degrees.iter().sum::<u32>() as usize;
        let pairs = (0..=RUNS).map(|_| {
            (
                cpu_seconds(model, 1, &single, &batch),
                cpu_seconds(model, num_ranks, &several, &batch),
            )
        });
        let (one, many) = median_ratio(pairs.skip(1).collect());
        let lens = seq_lens
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        println!(
            "{lens:<26} {:<12} {one:>8.3} s {many:>8.3} s {:>7.3}",
            several.to_string(),
            many / one
        );
    }
}

/// Processor time of all ranks for the gradients of `batch`, once a first run has brought in the memory: a run that
/// goes on for many steps pays for that only once.
fn cpu_seconds(model: &ModelConfig, num_ranks: usize, plan: &Plan, batch: &TokenBatch) -> f64 {
    let backends = (0..num_ranks)
        .map(|_| CpuBackend::new(Bytes::from_mib(8192)))
        .collect();
    let spent = run_ranks(backends, |world| {
        let mut executor = Executor::new(model.clone(), world.clone(), 1)?;
        executor.accumulate_gradients(plan, batch)?;
        executor.discard_gradients();
        world.barrier()?;
        let start = process_time();
        // Nobody starts before everyone has looked at the clock, nor looks again before everyone has ended.
        world.barrier()?;
        executor.accumulate_gradients(plan, batch)?;
        world.barrier()?;
        Ok::<_, lengthwise_train::TrainError>(process_time() - start)
    });
    spent.unwrap_or_else(|failure| panic!("{failure}"))[0].as_secs_f64()
}

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn batch(seq_lens: &[u64], vocab: usize) -> TokenBatch {
    let sequences = seq_lens.iter().map(|&seq_len| {
        let ids: Arc<[u32]> = (0..=seq_len)
            .map(|place| (place * 7919 % vocab as u64) as u32)
            .collect();
        TokenSequence::new(ids)
    });
    TokenBatch::new(sequences.collect())
}

/// One micro-batch with a group for each degree; sequences go round the groups.
fn plan(degrees: &[u32], num_sequences: usize) -> Plan {
    let mut next = 0;
    let groups = degrees.iter().enumerate().map(|(index, &degree)| {
        let ranks = (next..next + degree).map(Rank).collect();
        next += degree;
        let sequences = (index..num_sequences)
            .step_by(degrees.len())
            .map(|sequence| SequenceIndex(sequence as u32));
        let degree = Degree::new(degree).unwrap_or(Degree::ONE);
        Group {
            strategy: Strategy::ulysses(degree, Activations::Recompute),
            ranks,
            sequences: sequences.collect(),
        }
    });
    Plan::new(vec![MicroBatch {
        groups: groups.collect(),
    }])
}
