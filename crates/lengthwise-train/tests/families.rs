//! Losses and gradients of every family of models are those of a plain implementation in `f64` that reads what was written.

mod common;

use std::path::Path;

use common::llama::Llama;
use common::{batch, masked, on_ranks, plan, variants};
use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Activations, Bytes};
use lengthwise_data::TokenBatch;
use lengthwise_train::{Executor, ModelConfig, ModelSpec, NoDecay, OptimizerConfig, Schedule};

const SEQ_LENS: [u64; 3] = [40, 7, 23];

/// Trains a few steps, so that no parameter is what it started as, and writes the model. Returns the loss of a token of the
/// batch by what was written, and the gradients.
fn trained(config: &ModelConfig, batch: &TokenBatch, directory: &Path) -> (f64, Vec<Vec<f32>>) {
    let plan = plan(
        &[&[(2, &[0]), (1, &[1])], &[(3, &[2])]],
        Activations::Recompute,
    );
    let optimizer = OptimizerConfig {
        learning_rate: 3e-2,
        schedule: Schedule::Cosine {
            min_learning_rate: 3e-2,
        },
        warmup_steps: 1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        no_decay: NoDecay::USUAL,
        clip_norm: Some(1.0),
    };
    let mut results = on_ranks(3, Bytes::from_mib(64), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
        for _ in 0..8 {
            executor.step(&plan, batch, &optimizer, 8)?;
        }
        common::write(&executor, directory, 256)?;
        let loss = executor.accumulate_gradients(&plan, batch)?;
        let loss = world.all_reduce_values(&[loss], ReduceOp::Sum)?[0];
        Ok((loss, executor.gathered_gradients()?))
    });
    let (loss, gradients) = results.swap_remove(0);
    (loss / batch.num_labels() as f64, gradients)
}

fn mean_loss(model: &Llama, batch: &TokenBatch) -> f64 {
    let sequences = batch.sequences.iter();
    let losses = sequences.map(|sequence| {
        let last = sequence.targets().last();
        let ids: Vec<u32> = sequence.inputs().iter().chain(last).copied().collect();
        let losses = model.losses(&ids).into_iter().enumerate();
        let is_label = |place| sequence.is_label().is_none_or(|is_label| is_label[place]);
        losses
            .filter(|&(place, _)| is_label(place))
            .map(|(_, loss)| loss)
            .sum::<f64>()
    });
    losses.sum::<f64>() / batch.num_labels() as f64
}

#[test]
fn losses_and_gradients_of_every_family_are_those_of_a_plain_implementation() {
    const STEP: f64 = 1e-5;
    for (number, (name, config)) in variants().into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let mut batch = batch(&SEQ_LENS, config.vocab);
        if number % 2 == 1 {
            // One of the groups has no label.
            batch = masked(&batch, &[0, 2]);
        }
        let (loss, gradients) = trained(&config, &batch, directory.path());
        let mut model = Llama::read(directory.path());
        let read = mean_loss(&model, &batch);
        assert!((read - loss).abs() <= 2e-5, "{name}: {read} for {loss}");
        let spec = ModelSpec::new(&config);
        for (unit, gradient) in spec.units.iter().zip(&gradients) {
            for (parameter, range) in unit.ranges() {
                let gradient = &gradient[range];
                let largest = (0..gradient.len())
                    .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
                    .unwrap();
                let scale = f64::from(gradient[largest].abs());
                // Adding to all keys of a head changes nothing but where positions turn them apart.
                assert!(scale > 1e-7, "{name}: {} has no gradient", parameter.name);
                for index in [largest, gradient.len() / 2, gradient.len() - 1] {
                    model.shift(&parameter.name, index, STEP);
                    let above = mean_loss(&model, &batch);
                    model.shift(&parameter.name, index, -2.0 * STEP);
                    let below = mean_loss(&model, &batch);
                    model.shift(&parameter.name, index, STEP);
                    let expected = (above - below) / (2.0 * STEP);
                    let apart = (f64::from(gradient[index]) - expected).abs();
                    assert!(
                        apart <= 1e-4 * scale + 1e-8,
                        "{name}: {}[{index}] is {}, expected {expected}",
                        parameter.name,
                        gradient[index]
                    );
                }
            }
        }
    }
}
