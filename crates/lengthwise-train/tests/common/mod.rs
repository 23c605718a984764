//! Small models, batches and plans for the tests of the executor.

#![allow(dead_code, reason = "each test uses some of it")]

use std::sync::Arc;

use lengthwise_comm::{Communicator, ThreadCommunicator, run_ranks};
use lengthwise_core::{Bytes, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy};
use lengthwise_tensor::CpuBackend;
use lengthwise_train::data::{TokenBatch, TokenSequence};
use lengthwise_train::{Executor, ModelConfig, TrainError};

/// A decoder small enough to run hundreds of times.
pub fn tiny_model(heads: usize, kv_heads: usize, tied_output: bool) -> ModelConfig {
    ModelConfig {
        vocab: 61,
        hidden: heads * 4,
        layers: 2,
        heads,
        kv_heads,
        ffn: 40,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied_output,
    }
}

/// Sequences of these lengths with ids that repeat nowhere near each other.
pub fn batch(seq_lens: &[u64], vocab: usize) -> TokenBatch {
    let sequences = seq_lens.iter().enumerate().map(|(index, &seq_len)| {
        let ids: Arc<[u32]> = (0..=seq_len)
            .map(|place| ((place * 7919 + index as u64 * 104_729) % vocab as u64) as u32)
            .collect();
        TokenSequence::new(ids)
    });
    TokenBatch::new(sequences.collect())
}

/// A plan from `(degree, sequences)` of each group of each micro-batch; ranks are taken in order.
pub fn plan(micro_batches: &[&[(u32, &[u32])]], recompute: bool) -> Plan {
    let micro_batches = micro_batches.iter().map(|groups| {
        let mut next = 0;
        let groups = groups.iter().map(|&(degree, sequences)| {
            let ranks = (next..next + degree).map(Rank).collect();
            next += degree;
            Group {
                strategy: Strategy::ulysses(Degree::new(degree).unwrap(), recompute),
                ranks,
                sequences: sequences.iter().copied().map(SequenceIndex).collect(),
            }
        });
        MicroBatch {
            groups: groups.collect(),
        }
    });
    Plan::new(micro_batches.collect())
}

/// What every rank of a fresh world returns.
pub fn on_ranks<R: Send>(
    num_ranks: usize,
    memory: Bytes,
    body: impl Fn(ThreadCommunicator<CpuBackend>) -> Result<R, TrainError> + Sync,
) -> Vec<R> {
    let backends = (0..num_ranks).map(|_| CpuBackend::new(memory)).collect();
    run_ranks(backends, body).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Loss summed over all tokens, and every unit's gradient.
pub fn gradients(
    config: &ModelConfig,
    num_ranks: usize,
    plan: &Plan,
    batch: &TokenBatch,
) -> (f64, Vec<Vec<f32>>) {
    let mut results = on_ranks(num_ranks, Bytes::from_mib(512), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
        let loss = executor.accumulate_gradients(plan, batch)?;
        let loss = world.all_reduce_values(&[loss], lengthwise_comm::ReduceOp::Sum)?[0];
        Ok((loss, executor.gathered_gradients()?))
    });
    let first = results.swap_remove(0);
    for other in &results {
        assert_eq!(other, &first, "ranks disagree");
    }
    first
}
