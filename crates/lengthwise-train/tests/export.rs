//! The exported model is the trained one: reading it as a LLaMA gives the losses that the executor reports.
//!
//! The reader is a plain implementation in `f64`, and transformers where `LENGTHWISE_PYTHON` names a Python that has it.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::llama::Llama;
use common::{batch, on_ranks, plan, tiny_model};
use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Activations, Bytes, Plan, Rank};
use lengthwise_data::TokenBatch;
use lengthwise_train::{
    Executor, ExportWriter, ModelConfig, ModelSpec, NoDecay, OptimizerConfig, Rope, Schedule,
};

const STEPS: u64 = 40;

/// The error that sums of `f32` over a few layers may make in a loss.
const LOSS_TOLERANCE: f64 = 2e-5;

/// The same of a logit as a part of the largest; transformers takes some steps in `f32` too.
const LOGIT_TOLERANCE: f64 = 1e-4;

/// Figures that no default is, so that those of the file count.
fn config(tied_output: bool) -> ModelConfig {
    ModelConfig {
        rope: Rope::plain(20.0),
        norm_epsilon: 0.05,
        ..tiny_model(8, 2, tied_output)
    }
}

fn small_batch(config: &ModelConfig) -> TokenBatch {
    batch(&[40, 7, 23], config.vocab)
}

/// Trains on the batch again and again until the model has learnt something, exports the model, and returns the mean loss
/// of the batch by the parameters that were written.
fn trained(config: &ModelConfig, num_ranks: usize, plan: &Plan, directory: &Path) -> f64 {
    let batch = small_batch(config);
    let optimizer = OptimizerConfig {
        learning_rate: 2e-2,
        schedule: Schedule::Cosine {
            min_learning_rate: 1e-2,
        },
        warmup_steps: 2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        no_decay: NoDecay::USUAL,
        clip_norm: Some(1.0),
    };
    let losses = on_ranks(num_ranks, Bytes::from_mib(64), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
        for _ in 0..STEPS {
            executor.step(plan, &batch, &optimizer, STEPS)?;
        }
        let is_first = executor.world().rank() == Rank(0);
        let claimed = is_first
            .then(|| ExportWriter::claim(directory, executor.spec()))
            .transpose()?;
        let written = executor.write_model(claimed, 256)?;
        assert_eq!(written.is_some_and(|written| written.is_ok()), is_first);
        let loss = executor.accumulate_gradients(plan, &batch)?;
        Ok(world.all_reduce_values(&[loss], ReduceOp::Sum)?[0])
    });
    losses[0] / num_tokens(&batch) as f64
}

fn num_tokens(batch: &TokenBatch) -> usize {
    let sequences = batch.sequences.iter();
    sequences.map(|sequence| sequence.inputs().len()).sum()
}

/// All ids of a sequence, the last target too.
fn ids(batch: &TokenBatch, sequence: usize) -> Vec<u32> {
    let sequence = &batch.sequences[sequence];
    let last = sequence.targets().last();
    sequence.inputs().iter().chain(last).copied().collect()
}

fn mean_loss(model: &Llama, batch: &TokenBatch) -> f64 {
    let sequences = 0..batch.sequences.len();
    let sum: f64 = sequences.map(|index| model.loss(&ids(batch, index))).sum();
    sum / num_tokens(batch) as f64
}

/// Two micro-batches, with groups of two degrees in the first.
fn plan_of_three_ranks() -> Plan {
    plan(
        &[&[(2, &[0]), (1, &[1])], &[(3, &[2])]],
        Activations::Recompute,
    )
}

#[test]
fn a_reader_of_the_export_gets_the_loss_of_the_trained_model() {
    for tied_output in [true, false] {
        let config = config(tied_output);
        let directory = tempfile::tempdir().unwrap();
        let loss = trained(&config, 3, &plan_of_three_ranks(), directory.path());
        let mut model = Llama::read(directory.path());
        let batch = small_batch(&config);
        let read = mean_loss(&model, &batch);
        assert!((read - loss).abs() <= LOSS_TOLERANCE, "{read} for {loss}");

        // Untrained, the loss would be that of guessing, whatever the parameters; and positions and norms must count.
        assert!(loss < 0.7 * (config.vocab as f64).ln(), "{loss}");
        for (name, other) in [("rope_theta", 10_000.0), ("rms_norm_eps", 1e-5)] {
            let value = std::mem::replace(&mut model.config[name], other.into());
            let moved = (mean_loss(&model, &batch) - read).abs();
            assert!(
                moved > 5.0 * LOSS_TOLERANCE,
                "{name} moves the loss by {moved}"
            );
            model.config[name] = value;
        }
    }
}

#[test]
fn an_export_holds_the_same_parameters_whatever_the_ranks() {
    let config = config(false);
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let alone = plan(&[&[(1, &[0, 1, 2])]], Activations::Keep);
    trained(&config, 1, &alone, directories[0].path());
    trained(&config, 3, &plan_of_three_ranks(), directories[1].path());
    let [one, three] = directories.each_ref().map(|one| Llama::read(one.path()));
    let spec = ModelSpec::new(&config);
    let parameters = spec.units.iter().flat_map(|unit| &unit.parameters);
    let mut names: Vec<&str> = parameters.map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(one.names(), names);
    assert_eq!(three.names(), names);
    for name in names {
        let pairs = one.elements(name).iter().zip(three.elements(name));
        let (apart, largest) = pairs.fold((0.0f64, 0.0f64), |(apart, largest), (a, b)| {
            (apart.max((a - b).abs()), largest.max(a.abs()))
        });
        assert!(apart <= 1e-2 * largest, "{name}: {apart} of {largest}");
    }
}

#[test]
fn transformers_computes_the_logits_of_an_export() {
    let Ok(python) = std::env::var("LENGTHWISE_PYTHON") else {
        let skipped = "skipped: LENGTHWISE_PYTHON names no Python with torch and transformers";
        writeln!(std::io::stderr(), "{skipped}").unwrap();
        return;
    };
    for tied_output in [true, false] {
        let config = config(tied_output);
        let directory = tempfile::tempdir().unwrap();
        trained(&config, 3, &plan_of_three_ranks(), directory.path());
        let ids = ids(&small_batch(&config), 0);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/logits.py");
        let mut reader = Command::new(&python)
            .arg(script)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("can't run {python}: {error}"));
        let mut input = reader.stdin.take().unwrap();
        input.write_all(format!("{ids:?}").as_bytes()).unwrap();
        drop(input);
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "{python} {script} failed");
        let theirs: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout).unwrap();
        let ours = Llama::read(directory.path()).logits(&ids);
        assert_eq!((theirs.len(), theirs[0].len()), (ids.len(), config.vocab));
        let largest = ours
            .iter()
            .flatten()
            .fold(0.0f64, |max, x| max.max(x.abs()));
        assert!(largest > 1.0, "an untrained model has no logits to compare");
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            let apart = (ours - theirs).abs();
            assert!(apart <= LOGIT_TOLERANCE * largest, "{theirs} for {ours}");
        }
    }
}
