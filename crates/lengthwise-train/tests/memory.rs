//! Device memory: predictions hold, and a sequence too long for one device trains on several.

mod common;

use std::num::NonZero;

use common::{batch, on_ranks, one_group, plan, tiny_model};
use lengthwise_comm::{CommError, Communicator, FailureCause, run_ranks};
use lengthwise_core::{Activations, Bytes, Degree, Strategy};
use lengthwise_tensor::{Backend, CpuBackend, HostMemory, TensorError};
use lengthwise_train::{Executor, Family, ModelConfig, TrainError, memory};

fn model() -> ModelConfig {
    ModelConfig {
        hidden: 64,
        head_dim: 8,
        ffn: 160,
        ..tiny_model(8, 4, false)
    }
}

/// The most that was held for any rank.
struct Peak {
    /// On its device, beside what the scratch of operations may take.
    device: f64,
    host: f64,
}

fn measured_peak(config: &ModelConfig, strategy: Strategy, seq_lens: &[u64]) -> Peak {
    let batch = batch(seq_lens, config.vocab);
    let plan = one_group(strategy, seq_lens.len());
    let num_ranks = strategy.degree().as_usize();
    let peaks = on_ranks(num_ranks, Bytes::from_mib(4096), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 1)?;
        executor.accumulate_gradients(&plan, &batch)?;
        let backend = world.backend();
        Ok((backend.memory().peak, backend.host_memory().peak))
    });
    Peak {
        device: peaks.iter().map(|peak| peak.0.as_f64()).fold(0.0, f64::max),
        host: peaks.iter().map(|peak| peak.1.as_f64()).fold(0.0, f64::max),
    }
}

#[test]
fn memory_measured_stays_within_the_prediction_and_the_prediction_is_not_much_larger() {
    let config = model();
    for activations in [Activations::Recompute, Activations::Keep] {
        for degree in [1, 2, 3, 4, 6, 8] {
            let strategy = ulysses(degree, activations);
            assert_predicted(&config, strategy, |tokens| vec![tokens], 512, 1.1);
        }
    }
}

/// Blocks that travel are only held at once if their neighbours are slow, so the prediction is further above.
#[test]
fn predictions_hold_for_rings() {
    let windowed = ModelConfig {
        family: Family::Mistral {
            window: NonZero::new(100),
        },
        ..model()
    };
    for config in [model(), windowed] {
        for activations in Activations::ALL {
            for (ulysses, ring) in [(1, 2), (1, 7), (2, 2), (2, 3)] {
                let degree = |degree| Degree::new(degree).unwrap();
                let strategy = Strategy::new(degree(ulysses), degree(ring), activations).unwrap();
                assert_predicted(&config, strategy, |tokens| vec![tokens], 512, 1.3);
                let many = |tokens| vec![3; tokens as usize / 3];
                assert_predicted(&config, strategy, many, 3 * 512, 1.3);
            }
        }
    }
}

#[test]
fn predictions_hold_for_heads_of_any_width_with_norms_and_biases() {
    let wide = ModelConfig {
        head_dim: 24,
        family: Family::Qwen3 {
            attention_bias: true,
            window: None,
        },
        ..model()
    };
    let narrow = ModelConfig {
        head_dim: 2,
        ffn: 16,
        family: Family::Qwen2 { window: None },
        ..model()
    };
    for config in [wide, narrow] {
        for activations in [Activations::Recompute, Activations::Keep] {
            for degree in [1, 2, 3, 4] {
                // Many tokens, whose attention takes little time.
                let seq_lens = |tokens| vec![128; tokens as usize / 128];
                let strategy = ulysses(degree, activations);
                assert_predicted(&config, strategy, seq_lens, 2048, 1.1);
            }
        }
    }
}

#[test]
fn predictions_hold_where_the_host_keeps_the_inputs_of_layers() {
    let of = |layers, ulysses, ring, margin| {
        let config = ModelConfig { layers, ..model() };
        let [ulysses, ring] = [ulysses, ring].map(|part| Degree::new(part).unwrap());
        let strategy = Strategy::new(ulysses, ring, Activations::Host).unwrap();
        // Many tokens, whose attention takes little time; and sequences that not every rank has a token of.
        let of_128 = |tokens| vec![128; tokens as usize / 128];
        assert_predicted(&config, strategy, of_128, 512, margin);
        let of_3 = |tokens| vec![3; tokens as usize / 3];
        assert_predicted(&config, strategy, of_3, 3 * 512, margin);
    };
    for layers in [2, 5] {
        of(layers, 1, 1, 1.1);
        of(layers, 3, 1, 1.1);
    }
    of(4, 1, 3, 1.3);
    of(4, 2, 2, 1.3);
}

#[test]
fn a_node_of_full_hosts_ends_the_job_with_what_it_has() {
    let config = ModelConfig {
        layers: 4,
        ..model()
    };
    let strategy = ulysses(2, Activations::Host);
    let batch = batch(&[300], config.vocab);
    let needed = 300.0 * 2.0 * memory::host_bytes_per_token(&config, strategy);
    assert_eq!(needed, 300.0 * 3.0 * 64.0 * 4.0);
    let run = |budget: u64| {
        let host = HostMemory::new(Bytes(budget));
        let backend = |_| CpuBackend::new(Bytes::from_mib(64)).on_host(host.clone());
        run_ranks((0..2).map(backend).collect(), |world| {
            Executor::new(config.clone(), world, 1)?
                .accumulate_gradients(&one_group(strategy, 1), &batch)
        })
        .map_err(Box::new)
    };
    run(needed as u64).unwrap();
    let failure = run(needed as u64 - 1).unwrap_err();
    let FailureCause::Error(TrainError::Comm(CommError::HostCopy { rank, error })) = failure.cause
    else {
        panic!("the host must run out of memory, not {failure}");
    };
    assert_eq!(rank, failure.rank);
    assert!(
        error
            .to_string()
            .starts_with("out of host memory: a copy from a device asks for 37.50 KiB"),
        "{error}"
    );
}

fn ulysses(degree: u32, activations: Activations) -> Strategy {
    Strategy::ulysses(Degree::new(degree).unwrap(), activations)
}

/// Compares what is held of `tokens` tokens a rank, and of twice as many, with what is predicted: at least that, and at most
/// `margin` times as much.
fn assert_predicted(
    config: &ModelConfig,
    strategy: Strategy,
    seq_lens: impl Fn(u64) -> Vec<u64>,
    tokens: u64,
    margin: f64,
) {
    let degree = strategy.degree().get();
    let peak = |tokens| measured_peak(config, strategy, &seq_lens(tokens));
    // Long enough that activations, not the output stage's weights, make the peak.
    let (short, long) = (tokens * u64::from(degree), 2 * tokens * u64::from(degree));
    let per_token = memory::bytes_per_token(config, strategy);
    let fixed = memory::fixed_bytes(config, degree as usize);
    let (peak_short, peak_long) = (peak(short), peak(long));
    let predicted = fixed + per_token * long as f64;
    assert!(
        peak_long.device <= predicted,
        "{strategy}: {} held, {predicted} predicted",
        peak_long.device
    );
    // A rank may have a token more than its share.
    let on_host = memory::host_bytes_per_token(config, strategy);
    let share = on_host * long as f64 * (1.0 - 1e-9);
    let most = on_host * (long + u64::from(degree)) as f64;
    assert!(
        (share..=most).contains(&peak_long.host),
        "{strategy}: {} held on the host, {share} predicted",
        peak_long.host
    );
    let measured_per_token = (peak_long.device - peak_short.device) / (long - short) as f64;
    let ratio = per_token / measured_per_token;
    assert!(
        (0.98..margin).contains(&ratio),
        "{config:?}: {strategy}: {per_token} bytes a token predicted, {measured_per_token} measured"
    );
}

/// Of a vocabulary as large as those of published models compared with the layers, the output's stage holds most. What a slow
/// neighbour has not read yet is only there if it is slow, so the prediction is further above where layers are large.
#[test]
fn predictions_hold_for_large_vocabularies_and_large_layers() {
    let large_vocabulary = ModelConfig {
        vocab: 12_000,
        ..model()
    };
    let large_layers = ModelConfig {
        hidden: 256,
        head_dim: 32,
        ffn: 1024,
        vocab: 2_000,
        ..model()
    };
    for (config, activations, margin) in [
        (large_vocabulary.clone(), Activations::Recompute, 1.3),
        (large_vocabulary, Activations::Keep, 1.3),
        (large_layers, Activations::Recompute, 1.5),
    ] {
        for tied_output in [false, true] {
            let config = ModelConfig {
                tied_output,
                ..config.clone()
            };
            for num_ranks in [1, 2, 3, 4] {
                // As many as fill a block of logits, and more.
                for seq_len in [96, 256] {
                    let strategy = ulysses(num_ranks, activations);
                    let seq_len = seq_len * u64::from(num_ranks);
                    // Gradients of the first micro-batch are there while the second is run.
                    let peak = peak_of_two(&config, strategy, seq_len).as_f64();
                    let predicted = memory::fixed_bytes(&config, num_ranks as usize)
                        + memory::bytes_per_token(&config, strategy) * seq_len as f64;
                    let ratio = predicted / peak;
                    assert!(
                        (1.0..margin).contains(&ratio),
                        "{ratio}: {predicted} predicted, {peak} held with {num_ranks} ranks, {seq_len} tokens, {config:?}"
                    );
                }
            }
        }
    }
}

/// The most that any device held in two micro-batches of one sequence each.
fn peak_of_two(config: &ModelConfig, strategy: Strategy, seq_len: u64) -> Bytes {
    let batch = batch(&[seq_len, seq_len], config.vocab);
    let degree = strategy.degree().get();
    let plan = plan(
        &[&[(degree, &[0])], &[(degree, &[1])]],
        strategy.activations(),
    );
    let peaks = on_ranks(degree as usize, Bytes::from_mib(4096), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 1)?;
        executor.accumulate_gradients(&plan, &batch)?;
        Ok(world.backend().memory().peak)
    });
    peaks.into_iter().max().unwrap()
}

#[test]
fn a_sequence_that_exceeds_one_device_trains_on_four() {
    let config = model();
    let seq_len = 3000;
    let batch = batch(&[seq_len], config.vocab);
    let needed = memory::fixed_bytes(&config, 4)
        + memory::bytes_per_token(&config, ulysses(4, Activations::Recompute)) * seq_len as f64;
    let budget = Bytes::from_f64_ceil(needed).unwrap();

    let run = |degree: u32| -> Result<Vec<f64>, FailureCause<TrainError>> {
        let plan = plan(&[&[(degree, &[0])]], Activations::Recompute);
        let backends = (0..4).map(|_| CpuBackend::new(budget)).collect();
        let ranks = run_ranks(backends, |world| {
            Executor::new(config.clone(), world, 1)?.accumulate_gradients(&plan, &batch)
        });
        ranks.map_err(|failure| failure.cause)
    };
    assert!(run(4).unwrap().iter().sum::<f64>() > 0.0);

    let cause = run(1).unwrap_err();
    let FailureCause::Error(TrainError::Tensor(TensorError::OutOfMemory {
        request,
        held,
        budget: named,
        ..
    })) = cause
    else {
        panic!("degree 1 must run out of memory");
    };
    assert_eq!(named, budget);
    assert!(held.saturating_add(request) > budget);
}

/// Where the heads end, more devices do not help Ulysses; they help a ring, and the host helps without more of them.
#[test]
fn a_sequence_too_long_for_every_ulysses_degree_trains_by_a_ring_or_with_the_host() {
    let config = ModelConfig {
        heads: 2,
        kv_heads: 1,
        head_dim: 32,
        layers: 12,
        ..model()
    };
    let (num_ranks, seq_len) = (8, 3000);
    let batch = batch(&[seq_len], config.vocab);
    let of = |ulysses, ring, activations| {
        let [ulysses, ring] = [ulysses, ring].map(|part| Degree::new(part).unwrap());
        Strategy::new(ulysses, ring, activations).unwrap()
    };
    let needed = |strategy| {
        let per_token = memory::bytes_per_token(&config, strategy);
        memory::fixed_bytes(&config, num_ranks) + per_token * seq_len as f64
    };
    let (recompute, host) = (Activations::Recompute, Activations::Host);
    let others = [
        of(1, 8, recompute),
        of(2, 4, recompute),
        of(2, 1, host),
        of(1, 4, host),
    ];
    let least = others.map(needed).into_iter().fold(0.0, f64::max);
    let budget = Bytes::from_f64_ceil(least).unwrap();
    let run = |strategy| {
        let plan = one_group(strategy, 1);
        let backends = (0..num_ranks).map(|_| CpuBackend::new(budget)).collect();
        let losses = run_ranks(backends, |world| {
            Executor::new(config.clone(), world, 1)?.accumulate_gradients(&plan, &batch)
        });
        let sum = losses.map(|losses| losses.iter().sum::<f64>());
        sum.map_err(Box::new)
    };
    for activations in [recompute, Activations::Keep] {
        for degree in [1, 2] {
            let failure = run(of(degree, 1, activations)).unwrap_err();
            let FailureCause::Error(TrainError::Tensor(TensorError::OutOfMemory { .. })) =
                failure.cause
            else {
                panic!("Ulysses of {degree} must run out of memory, not {failure}");
            };
        }
    }
    for strategy in others {
        let loss = run(strategy).unwrap_or_else(|failure| panic!("{strategy}: {failure}"));
        assert!(loss > 0.0);
    }
}
