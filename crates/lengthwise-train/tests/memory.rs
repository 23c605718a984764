//! Device memory: predictions hold, and a sequence too long for one device trains on several.

mod common;

use std::num::NonZero;

use common::{batch, on_ranks, one_group, plan, tiny_model};
use lengthwise_comm::{Communicator, FailureCause, run_ranks};
use lengthwise_core::{Activations, Bytes, Degree, Strategy};
use lengthwise_tensor::{Backend, CpuBackend, TensorError};
use lengthwise_train::{Executor, Family, ModelConfig, TrainError, memory};

fn model() -> ModelConfig {
    ModelConfig {
        hidden: 64,
        head_dim: 8,
        ffn: 160,
        ..tiny_model(8, 4, false)
    }
}

/// The most that any device held, beside what the scratch of operations may take.
fn measured_peak(config: &ModelConfig, strategy: Strategy, seq_lens: &[u64]) -> Bytes {
    let batch = batch(seq_lens, config.vocab);
    let plan = one_group(strategy, seq_lens.len());
    let num_ranks = strategy.degree().as_usize();
    let peaks = on_ranks(num_ranks, Bytes::from_mib(4096), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 1)?;
        executor.accumulate_gradients(&plan, &batch)?;
        Ok(world.backend().memory().peak)
    });
    peaks.into_iter().max().unwrap()
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
        for activations in [Activations::Recompute, Activations::Keep] {
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
    let peak = |tokens| measured_peak(config, strategy, &seq_lens(tokens)).as_f64();
    // Long enough that activations, not the output stage's weights, make the peak.
    let (short, long) = (tokens * u64::from(degree), 2 * tokens * u64::from(degree));
    let per_token = memory::bytes_per_token(config, strategy);
    let fixed = memory::fixed_bytes(config, degree as usize);
    let (peak_short, peak_long) = (peak(short), peak(long));
    let predicted = fixed + per_token * long as f64;
    assert!(
        peak_long <= predicted,
        "{strategy}: {peak_long} held, {predicted} predicted"
    );
    let measured_per_token = (peak_long - peak_short) / (long - short) as f64;
    let ratio = per_token / measured_per_token;
    assert!(
        (0.98..margin).contains(&ratio),
        "{config:?}: {strategy}: {per_token} bytes a token predicted, {measured_per_token} measured"
    );
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
