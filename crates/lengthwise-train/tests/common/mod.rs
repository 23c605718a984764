//! Small models, batches and plans for the tests of the executor.

#![allow(dead_code, reason = "each test uses some of it")]

pub mod llama;

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use lengthwise_comm::{
    Communicator, Emulation, ThreadCommunicator, WorldOptions, run_ranks, run_ranks_with,
};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, Group, MicroBatch, Plan, Rank, Seconds,
    SequenceIndex, Speed, Strategy,
};
use lengthwise_cost::{ClusterLinks, Link};
use lengthwise_data::{TokenBatch, TokenSequence};
use lengthwise_tensor::CpuBackend;
use lengthwise_train::{
    Executor, ExportWriter, Family, ModelConfig, Rope, RopeScaling, SlidingWindow, TrainError,
};

/// A decoder small enough to run hundreds of times.
pub fn tiny_model(heads: usize, kv_heads: usize, tied_output: bool) -> ModelConfig {
    ModelConfig {
        vocab: 61,
        hidden: heads * 4,
        layers: 2,
        heads,
        kv_heads,
        ffn: 40,
        head_dim: 4,
        rope: Rope::plain(1e4),
        norm_epsilon: 1e-5,
        tied_output,
        family: Family::LLAMA,
    }
}

/// A plan of one micro-batch with one group of the first ranks, which has all sequences.
pub fn one_group(strategy: Strategy, num_sequences: usize) -> Plan {
    let group = Group {
        strategy,
        ranks: (0..strategy.degree().get()).map(Rank).collect(),
        sequences: (0..num_sequences as u32).map(SequenceIndex).collect(),
    };
    Plan::new(vec![MicroBatch {
        groups: vec![group],
    }])
}

/// A small model of every family, and of every scaling of positions, by name. Each has a figure that no other has.
pub fn variants() -> Vec<(&'static str, ModelConfig)> {
    let llama = tiny_model(6, 2, false);
    let scaled = |scaling| Rope {
        theta: 50.0,
        scaling,
    };
    let window = |tokens, layers: [usize; 1]| SlidingWindow {
        tokens: NonZero::new(tokens).unwrap(),
        layers: layers.into(),
    };
    vec![
        (
            "mistral with a window",
            ModelConfig {
                family: Family::Mistral {
                    window: NonZero::new(6),
                },
                ..llama.clone()
            },
        ),
        (
            "qwen3 with a window in one layer",
            ModelConfig {
                family: Family::Qwen3 {
                    attention_bias: false,
                    window: Some(window(3, [0])),
                },
                ..llama.clone()
            },
        ),
        (
            "qwen2 with a window in one layer",
            ModelConfig {
                family: Family::Qwen2 {
                    window: Some(window(9, [1])),
                },
                ..llama.clone()
            },
        ),
        (
            "llama with biases",
            ModelConfig {
                family: Family::Llama {
                    attention_bias: true,
                    mlp_bias: true,
                },
                tied_output: true,
                ..llama.clone()
            },
        ),
        (
            "llama 3 with scaled positions",
            ModelConfig {
                head_dim: 8,
                rope: scaled(RopeScaling::Llama3 {
                    factor: 4.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_context: 64.0,
                }),
                ..llama.clone()
            },
        ),
        (
            "llama with linear scaling",
            ModelConfig {
                rope: scaled(RopeScaling::Linear { factor: 3.0 }),
                ..llama.clone()
            },
        ),
        (
            "qwen2 with yarn",
            ModelConfig {
                head_dim: 8,
                rope: scaled(RopeScaling::Yarn {
                    factor: 4.0,
                    attention_factor: 1.3,
                    beta_fast: 8.0,
                    beta_slow: 1.0,
                    original_context: 64.0,
                    truncate: true,
                }),
                family: Family::Qwen2 { window: None },
                ..llama.clone()
            },
        ),
        (
            "qwen3 with biases",
            ModelConfig {
                head_dim: 10,
                family: Family::Qwen3 {
                    attention_bias: true,
                    window: None,
                },
                ..llama.clone()
            },
        ),
        (
            "qwen3 with narrow heads",
            ModelConfig {
                head_dim: 2,
                family: Family::Qwen3 {
                    attention_bias: false,
                    window: None,
                },
                tied_output: true,
                ..llama
            },
        ),
    ]
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

/// The same batch with labels in the sequences that are listed alone, there at three places of four that are not alike in
/// any two; and none at a first place.
pub fn masked(batch: &TokenBatch, sequences: &[usize]) -> TokenBatch {
    let masked = batch.sequences.iter().enumerate();
    let masked = masked.map(|(index, sequence)| {
        let ids = sequence.inputs().iter().chain(sequence.targets().last());
        let has_labels = sequences.contains(&index);
        let is_label = (0..sequence.targets().len())
            .map(|place| has_labels && place > 0 && (place + index) % 4 != 0)
            .collect();
        TokenSequence::masked(ids.copied().collect(), is_label)
    });
    TokenBatch::new(masked.collect())
}

/// A plan from `(degree, sequences)` of each group of each micro-batch; ranks are taken in order.
pub fn plan(micro_batches: &[&[(u32, &[u32])]], activations: Activations) -> Plan {
    let micro_batches = micro_batches.iter().map(|groups| {
        let mut next = 0;
        let groups = groups.iter().map(|&(degree, sequences)| {
            let ranks = (next..next + degree).map(Rank).collect();
            next += degree;
            Group {
                strategy: Strategy::ulysses(Degree::new(degree).unwrap(), activations),
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

/// The results of every rank of a fresh world.
pub fn on_ranks<R: Send>(
    num_ranks: usize,
    memory: Bytes,
    body: impl Fn(ThreadCommunicator<CpuBackend>) -> Result<R, TrainError> + Sync,
) -> Vec<R> {
    let backends = (0..num_ranks).map(|_| CpuBackend::new(memory)).collect();
    run_ranks(backends, body).unwrap_or_else(|failure| panic!("{failure}"))
}

/// A cluster of nodes of 2 devices, the last of which may have one, each half as fast as a core. How many cores this
/// machine really has is no matter.
pub fn emulation(num_ranks: u32, device_bandwidth: f64, nic_bandwidth: f64) -> Emulation {
    let link = |bandwidth| Link::new(bandwidth, Seconds::new(2e-5).unwrap()).unwrap();
    let links = ClusterLinks {
        device: link(device_bandwidth),
        nics_per_node: 1,
        nic: link(nic_bandwidth),
    };
    let device = Device::new(Bytes::from_mib(64), Speed::NOMINAL);
    let cluster = Cluster::with_num_devices(num_ranks, 2, device).unwrap();
    Emulation::new(cluster, links, Some(0.5), 16).unwrap()
}

/// Writes the model of an executor; a collective of all ranks.
pub fn write(
    executor: &Executor<ThreadCommunicator<CpuBackend>>,
    directory: &Path,
    context: u64,
) -> Result<(), TrainError> {
    let is_first = executor.world().rank() == Rank(0);
    let claimed = is_first.then(|| ExportWriter::claim(directory, executor.spec()).unwrap());
    if let Some(written) = executor.write_model(claimed, context)? {
        drop(written.unwrap());
    }
    Ok(())
}

/// Loss summed over all tokens, and every unit's gradient.
pub fn gradients(
    config: &ModelConfig,
    num_ranks: usize,
    plan: &Plan,
    batch: &TokenBatch,
) -> (f64, Vec<Vec<f32>>) {
    gradients_of(on_ranks(num_ranks, Bytes::from_mib(512), |world| {
        rank_gradients(config, world, plan, batch)
    }))
}

/// The same on an emulated cluster.
pub fn emulated_gradients(
    config: &ModelConfig,
    emulation: &Emulation,
    plan: &Plan,
    batch: &TokenBatch,
) -> (f64, Vec<Vec<f32>>) {
    let devices = emulation.cluster().devices().iter();
    let backends = devices
        .map(|device| CpuBackend::new(device.memory()))
        .collect();
    let options = WorldOptions {
        emulation: Some(emulation.clone()),
        ..WorldOptions::default()
    };
    let results = run_ranks_with(backends, &options, |world| {
        rank_gradients(config, world, plan, batch)
    });
    gradients_of(results.unwrap_or_else(|failure| panic!("{failure}")))
}

fn rank_gradients(
    config: &ModelConfig,
    world: ThreadCommunicator<CpuBackend>,
    plan: &Plan,
    batch: &TokenBatch,
) -> Result<(f64, Vec<Vec<f32>>), TrainError> {
    let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
    let loss = executor.accumulate_gradients(plan, batch)?;
    let loss = world.all_reduce_values(&[loss], lengthwise_comm::ReduceOp::Sum)?[0];
    Ok((loss, executor.gathered_gradients()?))
}

fn gradients_of(mut results: Vec<(f64, Vec<Vec<f32>>)>) -> (f64, Vec<Vec<f32>>) {
    let first = results.swap_remove(0);
    for other in &results {
        assert_eq!(other, &first, "ranks disagree");
    }
    first
}
