//! Held-out batches: their loss is that of the parameters a step leaves, on any ranks by any plan, and changes nothing.

mod common;

use std::num::NonZero;
use std::sync::Arc;

use common::llama::Llama;
use common::{batch, masked, on_ranks, plan, tiny_model};
use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{
    Activations, Bytes, Cluster, Device, Seconds, Speed, Strategy, StrategyKind, Tokens,
};
use lengthwise_cost::{CoreSharing, FittedCosts, FittedModel, KindCosts, StepModel};
use lengthwise_data::{TokenBatch, TokenSequence};
use lengthwise_plan::PlannerKind;
use lengthwise_train::checkpoint::Persistence;
use lengthwise_train::{
    Executor, NoDecay, OptimizerConfig, Schedule, StepRecord, TrainError, TrainObserver,
    TrainOptions, TrainSummary, Validation, WeightType, memory, train,
};

const STEPS: u64 = 5;

fn options(num_ranks: u32, validation: Option<Validation>) -> TrainOptions {
    let model = tiny_model(8, 4, true);
    let device = Device::new(Bytes::from_mib(64), Speed::NOMINAL);
    TrainOptions {
        optimizer: OptimizerConfig {
            learning_rate: 1e-2,
            warmup_steps: 1,
            schedule: Schedule::Constant,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: Some(1.0),
        },
        cluster: Cluster::uniform(1, num_ranks, device).unwrap(),
        pretrained: None,
        tokenizer: None,
        emulation: None,
        costs: Some(costs(&model, num_ranks)),
        refinement: None,
        validation,
        context: Tokens(256),
        steps: STEPS,
        seed: 5,
        activations: Activations::Recompute,
        degrees: None,
        space: None,
        plan_ahead: 2,
        export: None,
        persistence: Persistence::default(),
        weights: WeightType::F32,
        traced_steps: [].into(),
        longest_wait: std::time::Duration::from_secs(60),
        injected_failure: None,
        model,
    }
}

/// Costs by which plans are the same each time, and which make some groups large.
fn costs(model: &lengthwise_train::ModelConfig, num_ranks: u32) -> StepModel {
    let degrees = (1..=num_ranks).filter_map(|degree| lengthwise_core::Degree::new(degree).ok());
    let costs = KindCosts {
        quadratic_s_per_token2: 1e-6,
        linear_s_per_token: 1e-5,
        memory_bytes_per_token: degrees
            .map(|degree| {
                let strategy = Strategy::ulysses(degree, Activations::Recompute);
                let bytes = memory::bytes_per_token(model, strategy);
                (degree, bytes)
            })
            .collect(),
        ..KindCosts::default()
    };
    let kind = StrategyKind::ulysses(Activations::Recompute);
    StepModel {
        cost: FittedModel::new(FittedCosts {
            fixed_memory_bytes: memory::fixed_bytes(model, num_ranks as usize),
            micro_batch_overhead_s: 1e-3,
            ..FittedCosts::of_kind(kind, costs)
        })
        .unwrap(),
        step_overhead: Seconds::new(1e-3).unwrap(),
        sharing: CoreSharing::apart(num_ranks),
    }
}

#[derive(Default)]
struct Recorder(Vec<StepRecord>);

impl TrainObserver for Recorder {
    fn calibrated(&mut self, _took: Seconds) {}

    fn step(&mut self, record: &StepRecord) {
        self.0.push(record.clone());
    }
}

fn run(options: &TrainOptions, planner: PlannerKind) -> (TrainSummary, Vec<StepRecord>) {
    let mut recorder = Recorder::default();
    let vocab = options.model.vocab;
    let batches = std::iter::repeat_with(|| Ok(batch(&[200, 3, 50, 17, 80, 1], vocab)));
    let summary = train(options, planner.planner().into(), batches, &mut recorder).unwrap();
    (summary, recorder.0)
}

/// Other sequences than those that are trained on, in two batches; the second has labels in one sequence.
fn held_out(every: u64) -> Validation {
    let vocab = tiny_model(8, 4, true).vocab;
    let shifted = |batch: TokenBatch| {
        let sequences = batch.sequences.iter().map(|sequence| {
            let ids = sequence.inputs().iter().chain(sequence.targets().last());
            let ids: Arc<[u32]> = ids.map(|id| (id * 5 + 3) % vocab as u32).collect();
            match sequence.is_label() {
                Some(is_label) => TokenSequence::masked(ids, is_label.into()),
                None => TokenSequence::new(ids),
            }
        });
        TokenBatch::new(sequences.collect())
    };
    let second = masked(&batch(&[30, 60, 9], vocab), &[1]);
    Validation {
        batches: [batch(&[150, 40, 2], vocab), second].map(shifted).into(),
        every: NonZero::new(every).unwrap(),
    }
}

fn validation_losses(records: &[StepRecord]) -> Vec<(u64, f64)> {
    let validated = records.iter();
    validated
        .filter_map(|record| Some((record.step, record.validation?.loss)))
        .collect()
}

#[test]
fn the_loss_of_held_out_batches_does_not_depend_on_ranks_or_planner() {
    let (_, control) = run(&options(1, Some(held_out(2))), PlannerKind::Adaptive);
    let control = validation_losses(&control);
    assert_eq!(
        control.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [2, 4, 5]
    );
    for (num_ranks, planner) in [
        (2, PlannerKind::Adaptive),
        (3, PlannerKind::Static(None)),
        (4, PlannerKind::Adaptive),
    ] {
        let (summary, records) = run(&options(num_ranks, Some(held_out(2))), planner);
        let mut took = Seconds::ZERO;
        for record in records.iter().filter_map(|record| record.validation) {
            assert_eq!((record.num_tokens, record.num_labels), (291, 192 + 44));
            assert!(record.predicted > Seconds::ZERO && record.measured > Seconds::ZERO);
            took += record.measured;
        }
        assert_eq!(summary.validation, took);
        for ((step, loss), (_, control)) in validation_losses(&records).iter().zip(&control) {
            let apart = (loss / control - 1.0).abs();
            assert!(
                apart < 1e-5,
                "{num_ranks} ranks, step {step}: {loss}, {control} on one"
            );
        }
    }
}

#[test]
fn training_is_the_same_without_held_out_batches() {
    let losses = |validation| {
        let records = run(&options(3, validation), PlannerKind::Adaptive).1;
        let losses = records.iter().map(|record| record.loss.unwrap());
        losses.collect::<Vec<_>>()
    };
    assert_eq!(losses(Some(held_out(1))), losses(None));
}

#[test]
fn the_last_loss_of_held_out_batches_is_that_of_the_written_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    let options = TrainOptions {
        export: Some(path.clone()),
        ..options(2, Some(held_out(100)))
    };
    let (_, records) = run(&options, PlannerKind::Adaptive);
    let losses = validation_losses(&records);
    let [(STEPS, loss)] = losses[..] else {
        panic!("evaluated after {losses:?}");
    };
    let model = Llama::read(&path);
    let validation = held_out(1);
    let sequences = validation.batches.iter().flat_map(|batch| &batch.sequences);
    let expected: f64 = sequences
        .flat_map(|sequence| {
            let ids = sequence.inputs().iter().chain(sequence.targets().last());
            let losses = model.losses(&ids.copied().collect::<Vec<_>>());
            let is_label = sequence.is_label().map(<[bool]>::to_vec);
            let is_label = is_label.unwrap_or_else(|| vec![true; losses.len()]);
            let losses = losses.into_iter().zip(is_label);
            losses
                .filter(|&(_, is_label)| is_label)
                .map(|(loss, _)| loss)
        })
        .sum();
    let expected = expected / validation.num_labels() as f64;
    assert!(
        (loss - expected).abs() < 2e-5,
        "{loss}, by the written model {expected}"
    );
}

#[test]
fn forward_passes_give_the_loss_of_training_in_the_memory_that_is_predicted() {
    let config = tiny_model(8, 4, false);
    // Long enough that activations, not the output stage's weights, make the peak.
    let batch = batch(&[2000, 7, 333, 2], config.vocab);
    for (batch, num_ranks) in [(masked(&batch, &[0, 2]), 1), (batch.clone(), 3), (batch, 4)] {
        let plan = plan(&[&[(num_ranks, &[0, 1, 2, 3])]], Activations::Recompute);
        let results = on_ranks(num_ranks as usize, Bytes::from_mib(512), |world| {
            use lengthwise_tensor::Backend;
            let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
            world.backend().reset_peak_memory();
            let evaluated = executor.evaluate(&plan, &batch)?;
            let peak = world.backend().memory().peak.as_f64();
            assert!(executor.gathered_gradients()?.is_empty());
            let trained = executor.accumulate_gradients(&plan, &batch)?;
            let sums = world.all_reduce_values(&[evaluated, trained], ReduceOp::Sum)?;
            Ok::<_, TrainError>((sums[0], sums[1], peak))
        });
        for (evaluated, trained, peak) in results {
            assert!(
                (evaluated / trained - 1.0).abs() < 1e-6,
                "{evaluated}, {trained}"
            );
            let degree = lengthwise_core::Degree::new(num_ranks).unwrap();
            let predicted = memory::fixed_bytes(&config, num_ranks as usize)
                + 2342.0 * memory::forward_bytes_per_token(&config, degree);
            assert!(peak <= predicted, "{peak} held, {predicted} predicted");
        }
    }
}
