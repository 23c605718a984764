//! Device memory: predictions hold, and a sequence too long for one device trains on several.

mod common;

use common::{batch, on_ranks, plan, tiny_model};
use lengthwise_comm::{Communicator, FailureCause, run_ranks};
use lengthwise_core::{Activations, Bytes, Degree};
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
fn measured_peak(
    config: &ModelConfig,
    degree: u32,
    seq_lens: &[u64],
    activations: Activations,
) -> Bytes {
    let batch = batch(seq_lens, config.vocab);
    let all: Vec<u32> = (0..seq_lens.len() as u32).collect();
    let plan = plan(&[&[(degree, &all)]], activations);
    let peaks = on_ranks(degree as usize, Bytes::from_mib(4096), |world| {
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
            assert_predicted(&config, degree, activations, |tokens| vec![tokens], 512);
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
                assert_predicted(&config, degree, activations, seq_lens, 2048);
            }
        }
    }
}

/// Compares what is held of `tokens` tokens a rank, and of twice as many, with what is predicted.
fn assert_predicted(
    config: &ModelConfig,
    degree: u32,
    activations: Activations,
    seq_lens: impl Fn(u64) -> Vec<u64>,
    tokens: u64,
) {
    let peak = |tokens| measured_peak(config, degree, &seq_lens(tokens), activations).as_f64();
    // Long enough that activations, not the output stage's weights, make the peak.
    let (short, long) = (tokens * u64::from(degree), 2 * tokens * u64::from(degree));
    let per_token = memory::bytes_per_token(config, Degree::new(degree).unwrap(), activations);
    let fixed = memory::fixed_bytes(config, degree as usize);
    let (peak_short, peak_long) = (peak(short), peak(long));
    let predicted = fixed + per_token * long as f64;
    assert!(
        peak_long <= predicted,
        "degree {degree}: {peak_long} held, {predicted} predicted"
    );
    let measured_per_token = (peak_long - peak_short) / (long - short) as f64;
    let ratio = per_token / measured_per_token;
    assert!(
        (0.98..1.1).contains(&ratio),
        "{config:?}: degree {degree}, activations {activations}: {per_token} bytes a token predicted, \
         {measured_per_token} measured"
    );
}

#[test]
fn a_sequence_that_exceeds_one_device_trains_on_four() {
    let config = model();
    let seq_len = 3000;
    let batch = batch(&[seq_len], config.vocab);
    let four = Degree::new(4).unwrap();
    let needed = memory::fixed_bytes(&config, 4)
        + memory::bytes_per_token(&config, four, Activations::Recompute) * seq_len as f64;
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
