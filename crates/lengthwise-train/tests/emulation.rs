//! Emulated runs: other times, the same training.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{batch, emulated_gradients, emulation, gradients, plan, tiny_model};
use lengthwise_comm::{Communicator, Emulation, WorldOptions, run_ranks_with};
use lengthwise_core::{Activations, Bytes, Rank, Seconds, StrategyKind, Tokens};
use lengthwise_cost::{
    CoreSharing, FittedCosts, FittedModel, KindCosts, Link, RefinementRule, StepModel,
};
use lengthwise_data::{DataError, TokenBatch};
use lengthwise_plan::PlannerKind;
use lengthwise_tensor::CpuBackend;
use lengthwise_train::checkpoint::Persistence;
use lengthwise_train::{
    Executor, InjectedFailure, ModelConfig, NoDecay, OptimizerConfig, Schedule, StepRecord,
    TrainError, TrainObserver, TrainOptions, TrainSummary, WeightType, train,
};

#[test]
fn gradients_are_those_of_any_other_run_bit_for_bit() {
    let config = tiny_model(8, 4, true);
    let batch = batch(&[40, 9, 23, 5, 1], config.vocab);
    let plans = [
        (
            2,
            plan(
                &[&[(2, &[0, 4])], &[(1, &[1, 2]), (1, &[3])]],
                Activations::Recompute,
            ),
        ),
        (
            3,
            plan(
                &[&[(3, &[0, 2])], &[(2, &[1, 3])], &[(1, &[4])]],
                Activations::Recompute,
            ),
        ),
        (
            4,
            plan(
                &[&[(3, &[0]), (1, &[1, 4])], &[(4, &[2, 3])]],
                Activations::Recompute,
            ),
        ),
    ];
    for (num_ranks, plan) in plans {
        let emulation = emulation(num_ranks, 1e9, 1e7);
        let emulated = emulated_gradients(&config, &emulation, &plan, &batch);
        let plain = gradients(&config, num_ranks as usize, &plan, &batch);
        assert_eq!(emulated, plain, "{num_ranks} ranks");
    }
}

/// The emulated time of a batch's gradients on two devices that each have a sequence.
fn gradients_take(emulation: &Emulation, activations: Activations) -> f64 {
    let config = ModelConfig {
        layers: 6,
        ..tiny_model(8, 4, true)
    };
    let batch = batch(&[400, 400], config.vocab);
    let plan = plan(&[&[(1, &[0]), (1, &[1])]], activations);
    let options = WorldOptions {
        emulation: Some(emulation.clone()),
        ..WorldOptions::default()
    };
    let backend = |_| CpuBackend::new(Bytes::from_mib(64));
    let took = run_ranks_with((0..2).map(backend).collect(), &options, |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 1)?;
        executor.accumulate_gradients(&plan, &batch)?;
        world.barrier()?;
        let began = world.emulated_time();
        executor.accumulate_gradients(&plan, &batch)?;
        Ok::<_, TrainError>((world.emulated_time().unwrap() - began.unwrap()).get())
    });
    took.unwrap().into_iter().fold(0.0, f64::max)
}

#[test]
fn a_slow_link_to_the_host_lengthens_a_step_and_a_fast_one_is_hidden() {
    let emulation = emulation(2, 1e9, 1e9);
    let with_link = |bandwidth| {
        let link = Link::new(bandwidth, Seconds::ZERO).unwrap();
        gradients_take(&emulation.clone().with_host_link(link), Activations::Host)
    };
    let recompute = gradients_take(&emulation, Activations::Recompute);
    // Inputs of 400 tokens with 32 features, of all layers but the last, there and back.
    let bytes = 4.0 * 400.0 * 32.0;
    let slow = with_link(bytes / 0.05);
    let copies = 2.0 * 5.0 * 0.05;
    assert!(slow >= copies, "{slow}");
    assert!(slow <= copies + 1.5 * recompute, "{slow} and {recompute}");
    // Other work on the machine may slow one run down, but not each.
    let fast = (0..5).map(|_| with_link(1e10)).fold(f64::MAX, f64::min);
    assert!(fast <= 1.5 * recompute, "{fast} and {recompute}");
}

fn options(num_ranks: u32, steps: u64, nic_bandwidth: f64) -> TrainOptions {
    let emulation = emulation(num_ranks, 1e9, nic_bandwidth);
    TrainOptions {
        model: tiny_model(8, 4, true),
        pretrained: None,
        tokenizer: None,
        optimizer: OptimizerConfig {
            learning_rate: 1e-2,
            schedule: Schedule::Cosine {
                min_learning_rate: 1e-3,
            },
            warmup_steps: 1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: Some(1.0),
        },
        cluster: emulation.cluster().clone(),
        emulation: Some(emulation),
        costs: None,
        refinement: Some(RefinementRule::default()),
        validation: None,
        context: Tokens(256),
        steps,
        seed: 5,
        activations: Activations::Recompute,
        degrees: None,
        space: None,
        plan_ahead: 2,
        export: None,
        persistence: Persistence::default(),
        weights: WeightType::F32,
        traced_steps: BTreeSet::new(),
        longest_wait: WorldOptions::LONGEST_WAIT,
        injected_failure: None,
    }
}

/// Costs that need not be measured, where it does not matter what they are.
fn some_costs(num_ranks: u32) -> Option<StepModel> {
    let costs = FittedCosts::of_kind(
        StrategyKind::ulysses(Activations::Recompute),
        KindCosts {
            linear_s_per_token: 1e-4,
            ..KindCosts::default()
        },
    );
    Some(StepModel {
        cost: FittedModel::new(costs).unwrap(),
        step_overhead: Seconds::ZERO,
        sharing: CoreSharing::apart(num_ranks),
    })
}

fn batches(vocab: usize) -> impl Iterator<Item = Result<TokenBatch, DataError>> + Send {
    std::iter::repeat_with(move || Ok(batch(&[200, 3, 50, 17, 80, 1], vocab)))
}

#[derive(Default)]
struct Recorder {
    records: Vec<StepRecord>,
    last_step: Option<Instant>,
}

impl TrainObserver for Recorder {
    fn calibrated(&mut self, _took: Seconds) {}

    fn step(&mut self, record: &StepRecord) {
        self.records.push(record.clone());
        self.last_step = Some(Instant::now());
    }
}

fn run(
    options: &TrainOptions,
    planner: &str,
    recorder: &mut Recorder,
) -> Result<TrainSummary, TrainError> {
    let planner = planner.parse::<PlannerKind>().unwrap().planner();
    train(options, Arc::from(planner), batches(61), recorder)
}

#[test]
fn losses_are_those_of_a_run_without_pace() {
    for num_ranks in [2, 3, 4] {
        let emulated = TrainOptions {
            costs: some_costs(num_ranks),
            ..options(num_ranks, 3, 1e7)
        };
        let plain = TrainOptions {
            emulation: None,
            ..emulated.clone()
        };
        let [losses, plain] = [emulated, plain].map(|options| {
            let mut recorder = Recorder::default();
            run(&options, "static:2", &mut recorder).unwrap();
            recorder.records.iter().map(|r| r.loss).collect::<Vec<_>>()
        });
        assert_eq!(losses, plain, "{num_ranks} ranks");
    }
}

#[test]
fn costs_are_those_of_the_emulated_cluster() {
    // A group of 3 on nodes of 2 crosses a slow network, one of 2 does not.
    let mut recorder = Recorder::default();
    let of_degree = |planner: &str, recorder: &mut Recorder| {
        recorder.records.clear();
        run(&options(4, 2, 2e6), planner, recorder).unwrap();
        let record = recorder.records.last().unwrap();
        (record.report.predicted_step.get(), record.measured.get())
    };
    let inside = of_degree("static:2", &mut recorder);
    let across = of_degree("static:3", &mut recorder);
    // Attention's queries, keys and values alone: 351 tokens of 32 + 2 x 16 floats, a third of which leaves a node.
    let least = 351.0 * 64.0 * 4.0 / 3.0 / 2e6;
    assert!(across.0 > inside.0 + least, "{across:?} and {inside:?}");
    assert!(across.1 > inside.1 + least, "{across:?} and {inside:?}");
}

#[test]
fn a_rank_that_fails_ends_the_job_within_a_second() {
    for num_ranks in [2, 3, 4] {
        let failure = InjectedFailure {
            rank: Rank(num_ranks - 1),
            step: 3,
        };
        let options = TrainOptions {
            injected_failure: Some(failure),
            costs: some_costs(num_ranks),
            ..options(num_ranks, 1_000_000, 1e7)
        };
        let mut recorder = Recorder::default();
        let error = run(&options, "adaptive", &mut recorder).unwrap_err();
        let expected = TrainError::InjectedFailure {
            rank: failure.rank,
            step: 3,
        };
        assert_eq!(error.to_string(), expected.to_string());
        let took = recorder.last_step.unwrap().elapsed();
        assert!(took < Duration::from_secs(1), "{num_ranks} ranks: {took:?}");
    }
}

#[test]
fn another_cluster_is_refused() {
    let options = TrainOptions {
        cluster: options(3, 1, 1e7).cluster,
        ..options(2, 1, 1e7)
    };
    let error = run(&options, "static", &mut Recorder::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a cluster of 2 devices can't be emulated by the 3 of the run"
    );
}
