//! Whole runs: all planners and worlds train alike, and a failing rank ends the job.

mod common;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::llama::Llama;
use common::{batch, masked, tiny_model};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, Rank, Seconds, Speed, Strategy, StrategyKind,
    StrategySpace, Tokens,
};
use lengthwise_cost::{
    CoreSharing, FittedCosts, FittedModel, KindCosts, RefinementRule, StepModel,
};
use lengthwise_data::{DataError, TokenBatch};
use lengthwise_plan::{PlanError, Planned, Planner, PlannerKind, Problem};
use lengthwise_train::checkpoint::Persistence;
use lengthwise_train::{
    InjectedFailure, NoDecay, OptimizerConfig, Schedule, StepRecord, TrainError, TrainObserver,
    TrainOptions, TrainSummary, WeightType, check_longest, memory, train,
};

const STEPS: u64 = 6;

const LENS: [u64; 6] = [200, 3, 50, 17, 80, 1];

fn options(num_ranks: u32) -> TrainOptions {
    TrainOptions {
        model: tiny_model(8, 4, true),
        pretrained: None,
        tokenizer: None,
        optimizer: OptimizerConfig {
            learning_rate: 1e-2,
            schedule: Schedule::Cosine {
                min_learning_rate: 1e-3,
            },
            warmup_steps: 2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: Some(1.0),
        },
        cluster: Cluster::uniform(
            1,
            num_ranks,
            Device::new(Bytes::from_mib(64), Speed::NOMINAL),
        )
        .unwrap(),
        emulation: None,
        costs: None,
        refinement: Some(RefinementRule::default()),
        validation: None,
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
        traced_steps: BTreeSet::new(),
        longest_wait: lengthwise_comm::WorldOptions::LONGEST_WAIT,
        injected_failure: None,
    }
}

/// The same few sequences again and again, so that the loss falls.
fn batches(vocab: usize) -> impl Iterator<Item = Result<TokenBatch, DataError>> + Send {
    std::iter::repeat_with(move || Ok(batch(&LENS, vocab)))
}

#[derive(Default)]
struct Recorder {
    records: Vec<StepRecord>,
}

impl TrainObserver for Recorder {
    fn calibrated(&mut self, _took: Seconds) {}

    fn step(&mut self, record: &StepRecord) {
        self.records.push(record.clone());
    }
}

fn adaptive() -> Arc<dyn Planner> {
    PlannerKind::Adaptive.planner().into()
}

fn run(
    options: &TrainOptions,
    planner: &str,
) -> Result<(TrainSummary, Vec<StepRecord>), TrainError> {
    let mut recorder = Recorder::default();
    let planner = planner.parse::<PlannerKind>().unwrap().planner().into();
    let summary = train(
        options,
        planner,
        batches(options.model.vocab),
        &mut recorder,
    )?;
    Ok((summary, recorder.records))
}

/// The loss of a step, some token of which has a label.
fn loss(record: &StepRecord) -> f64 {
    record.loss.unwrap()
}

#[test]
fn loss_curves_do_not_depend_on_ranks_or_planner() {
    let (_, control) = run(&options(1), "adaptive").unwrap();
    assert!(
        loss(control.last().unwrap()) < 0.9 * loss(&control[0]),
        "the loss does not fall"
    );
    for (num_ranks, planner) in [
        (2, "adaptive"),
        (3, "static"),
        (4, "adaptive"),
        (6, "static:2"),
        (8, "adaptive"),
    ] {
        let (summary, records) = run(&options(num_ranks), planner).unwrap();
        assert_eq!((summary.steps, records.len() as u64), (STEPS, STEPS));
        for (record, control) in records.iter().zip(&control) {
            let apart = (loss(record) / loss(control) - 1.0).abs();
            assert!(
                apart < 1e-4,
                "{planner} on {num_ranks} ranks: step {} is off by {apart:.1e}",
                record.step
            );
            assert!(record.measured_peak_memory <= record.predicted_peak_memory);
            assert!(record.measured_peak_host_memory <= record.predicted_peak_host_memory);
        }
    }
}

#[test]
fn measuring_moves_no_parameter() {
    // One update of this size is finite; a forward pass on what it leaves behind would not be.
    let mut options = options(2);
    options.optimizer = OptimizerConfig {
        learning_rate: 1e30,
        schedule: Schedule::Cosine {
            min_learning_rate: 1e30,
        },
        warmup_steps: 0,
        weight_decay: 0.0,
        no_decay: NoDecay::USUAL,
        ..options.optimizer
    };
    options.steps = 1;
    let (summary, records) = run(&options, "adaptive").unwrap();
    assert_eq!((summary.steps, records.len()), (1, 1));
    // Plans follow measured times, and sums their order.
    let (_, control) = run(&self::options(2), "adaptive").unwrap();
    let apart = (loss(&records[0]) / loss(&control[0]) - 1.0).abs();
    assert!(apart < 1e-9, "off by {apart:.1e}");

    options.steps = 2;
    let error = run(&options, "adaptive").unwrap_err();
    assert!(
        matches!(error, TrainError::Diverged { step: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_model_of_no_numbers_is_not_saved() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("model");
    for num_ranks in [1, 3] {
        let mut options = options(num_ranks);
        options.optimizer = OptimizerConfig {
            learning_rate: 3e38,
            schedule: Schedule::Cosine {
                min_learning_rate: 3e38,
            },
            warmup_steps: 0,
            weight_decay: 10.0,
            no_decay: NoDecay::USUAL,
            ..options.optimizer
        };
        options.steps = 1;
        options.export = Some(directory.clone());
        let error = run(&options, "adaptive").unwrap_err();
        assert!(matches!(error, TrainError::NoModel { step: 1 }), "{error}");
        let left = directory.join("model.safetensors");
        assert!(!left.exists(), "{} was written", left.display());
    }
}

#[test]
fn the_longest_sequence_is_known_to_fit_before_anything_runs() {
    for (num_ranks, planner) in [(1, "adaptive"), (4, "adaptive"), (4, "static:2")] {
        let options = options(num_ranks);
        let planner = planner.parse::<PlannerKind>().unwrap().planner();
        let checked = |seq_len| check_longest(&options, planner.as_ref(), Tokens(seq_len));
        let Err(TrainError::SequenceTooLong {
            seq_len, longest, ..
        }) = checked(1 << 30)
        else {
            panic!("2^30 tokens have room on {num_ranks} devices of 64 MiB");
        };
        assert_eq!(seq_len, Tokens(1 << 30));
        let longest = longest.unwrap().0;
        assert!(longest > 256, "{longest}");
        assert!(checked(longest).is_ok());
        assert!(matches!(
            checked(longest + 1),
            Err(TrainError::SequenceTooLong { longest: Some(found), .. }) if found.0 == longest
        ));
    }
}

/// Ranks on their own are measured, too; what a whole group has room for would be too much for them.
#[test]
fn costs_are_measured_within_memory_where_only_whole_groups_are_allowed() {
    let degree = Degree::new(4).unwrap();
    for strategy in [
        Strategy::ulysses(degree, Activations::Keep),
        Strategy::ring(degree, Activations::Recompute),
    ] {
        let mut options = TrainOptions {
            context: Tokens(2048),
            steps: 1,
            space: Some(StrategySpace::new([strategy]).unwrap()),
            ..options(4)
        };
        let needed = memory::fixed_bytes(&options.model, 4)
            + memory::bytes_per_token(&options.model, strategy) * options.context.as_f64();
        let device = Device::new(Bytes::from_f64_ceil(needed).unwrap(), Speed::NOMINAL);
        options.cluster = Cluster::uniform(1, 4, device).unwrap();
        let (_, records) = run(&options, "adaptive").unwrap();
        assert!(loss(&records[0]).is_finite(), "{strategy}");
    }
}

#[test]
fn the_time_of_every_rank_adds_up_to_that_of_the_step() {
    for (num_ranks, planner) in [(1, "adaptive"), (4, "adaptive"), (4, "static:4")] {
        let (_, records) = run(&options(num_ranks), planner).unwrap();
        for record in records {
            assert_eq!(record.rank_times.len(), num_ranks as usize);
            for time in &record.rank_times {
                let sum = time.compute + time.exchange + time.wait;
                let apart = (sum.get() / record.measured.get() - 1.0).abs();
                assert!(apart < 1e-6, "{time:?} is not {}", record.measured);
                assert!(time.compute > Seconds::ZERO);
                assert!(num_ranks > 1 || time.wait == Seconds::ZERO, "{time:?}");
                assert!(num_ranks == 1 || time.exchange > Seconds::ZERO, "{time:?}");
            }
            let makespans = record.predicted_groups.iter();
            let makespans = makespans.map(|groups| {
                let slowest = groups.iter().copied().fold(Seconds::ZERO, Seconds::max);
                slowest + record.predicted_overhead
            });
            let predicted = makespans.sum::<Seconds>() + record.predicted_step_overhead;
            let apart = predicted.get() / record.predicted.get() - 1.0;
            assert!(apart.abs() < 1e-9, "{predicted} are the groups'");
        }
    }
}

#[test]
fn a_rank_that_fails_ends_the_job_with_its_error_within_a_second() {
    for num_ranks in [2, 3, 4, 8] {
        let failure = InjectedFailure {
            rank: Rank(num_ranks - 1),
            step: 3,
        };
        let options = TrainOptions {
            injected_failure: Some(failure),
            steps: 1_000_000,
            ..options(num_ranks)
        };
        let mut recorder = Ended::default();
        let error = train(&options, adaptive(), batches(61), &mut recorder).unwrap_err();
        let took = recorder.last_step.unwrap().elapsed();
        assert_eq!(
            error.to_string(),
            format!(
                "rank {} fails before step 3, as it was told to",
                num_ranks - 1
            )
        );
        assert!(
            took < Duration::from_secs(1),
            "{num_ranks} ranks took {took:?} to end"
        );
    }
}

/// When the last step ended.
#[derive(Default)]
struct Ended {
    last_step: Option<Instant>,
}

impl TrainObserver for Ended {
    fn calibrated(&mut self, _took: Seconds) {}

    fn step(&mut self, _record: &StepRecord) {
        self.last_step = Some(Instant::now());
    }
}

/// The error of a job whose third batch is this, which must come within a second of the second step.
fn error_at_third_batch(
    num_ranks: u32,
    planner: impl Planner + 'static,
    third: fn() -> TokenBatch,
) -> String {
    let (ends, ended) = mpsc::channel();
    // On a thread of its own: a job that hangs must not hang its test.
    thread::spawn(move || {
        let costs = FittedModel::new(FittedCosts::of_kind(
            StrategyKind::ulysses(Activations::Recompute),
            KindCosts {
                linear_s_per_token: 1e-6,
                ..KindCosts::default()
            },
        ));
        let options = TrainOptions {
            costs: Some(StepModel {
                cost: costs.unwrap(),
                step_overhead: Seconds::ZERO,
                sharing: CoreSharing::apart(num_ranks),
            }),
            steps: 1_000_000,
            ..options(num_ranks)
        };
        let batches = (1..).map(|step| match step {
            3 => Ok(third()),
            _ => Ok(batch(&[20, 3], 61)),
        });
        let mut recorder = Ended::default();
        let error = train(&options, Arc::new(planner), batches, &mut recorder).unwrap_err();
        let took = recorder.last_step.unwrap().elapsed();
        ends.send((error.to_string(), took)).unwrap();
    });
    let (error, took) = ended
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("{num_ranks} ranks hang"));
    assert!(took < Duration::from_secs(1), "{num_ranks} ranks: {took:?}");
    error
}

/// Knows no way to plan a single sequence.
struct Panicking(Box<dyn Planner>);

impl Planner for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        assert!(problem.batch.num_sequences() > 1, "no idea");
        self.0.plan(problem)
    }
}

#[test]
fn a_panic_anywhere_ends_the_job_with_one_error_within_a_second() {
    // The first backtrace of a process reads all its debug information, which can take longer than is allowed here.
    catch_unwind(|| panic!("for a backtrace")).unwrap_err();
    let planner = || Panicking(PlannerKind::Adaptive.planner());
    for num_ranks in [2, 3, 4] {
        assert_eq!(
            error_at_third_batch(num_ranks, planner(), || batch(&[5], 61)),
            "step 3 can't be planned: planner panicking panicked: no idea"
        );
        assert_eq!(
            error_at_third_batch(num_ranks, planner(), || panic!("page torn out")),
            "step 3 has no batch: the corpus panicked: page torn out"
        );
        // Tokens that the model does not know.
        let error = error_at_third_batch(num_ranks, planner(), || batch(&[20, 3], 1000));
        let panicked = error
            .strip_prefix("rank ")
            .and_then(|error| error.split_once(' '));
        assert!(
            panicked.is_some_and(|(_, error)| error.starts_with("failed: panicked: ")),
            "{error}"
        );
    }
}

#[test]
fn a_device_too_small_for_the_model_is_an_error_before_any_work() {
    let small = Cluster::uniform(1, 2, Device::new(Bytes(1 << 20), Speed::NOMINAL)).unwrap();
    let error = run(
        &TrainOptions {
            cluster: small,
            ..options(2)
        },
        "adaptive",
    )
    .unwrap_err();
    assert!(
        matches!(error, TrainError::ModelTooLarge { rank: Rank(0), .. }),
        "{error}"
    );
}

#[test]
fn a_sequence_that_fits_nowhere_ends_the_run_with_its_name() {
    let memory = Bytes::from_mib(9);
    let tight = Cluster::uniform(1, 2, Device::new(memory, Speed::NOMINAL)).unwrap();
    let options = TrainOptions {
        cluster: tight,
        ..options(2)
    };
    let long = std::iter::repeat_with(|| Ok(batch(&[5, 250_000], 61)));
    let error = train(&options, adaptive(), long, &mut Recorder::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("step 1 can't be planned: sequence 1 of 250000 tokens"),
        "{error}"
    );
}

#[test]
fn the_trained_model_is_written_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    let options = TrainOptions {
        export: Some(path.clone()),
        ..options(3)
    };
    let (_, records) = run(&options, "adaptive").unwrap();

    // Every step sees the same batch, so that the model that the last update left has a lower loss than that step.
    let model = Llama::read(&path);
    let batch = batch(&LENS, options.model.vocab);
    let losses = batch.sequences.iter().map(|sequence| {
        let ids = sequence.inputs().iter().chain(sequence.targets().last());
        model.loss(&ids.copied().collect::<Vec<u32>>())
    });
    let loss = losses.sum::<f64>() / LENS.iter().sum::<u64>() as f64;
    let last = self::loss(records.last().unwrap());
    assert!(0.8 * last < loss && loss < last, "{loss} after {last}");

    let error = run(&options, "adaptive").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is there already; a model is never overwritten"),
        "{error}"
    );
}

#[test]
fn a_batch_without_labels_is_a_step_that_changes_nothing() {
    struct Batches(u64);
    impl Iterator for Batches {
        type Item = Result<TokenBatch, DataError>;

        fn next(&mut self) -> Option<Self::Item> {
            self.0 += 1;
            let batch = batch(&LENS, tiny_model(8, 4, true).vocab);
            let has_none = self.0 == 3;
            Some(Ok(if has_none { masked(&batch, &[]) } else { batch }))
        }
    }
    let mut recorder = Recorder::default();
    let planner = PlannerKind::Adaptive.planner().into();
    train(&options(3), planner, Batches(0), &mut recorder).unwrap();
    let records = recorder.records;
    assert_eq!(
        (
            records[2].loss,
            records[2].gradient_norm,
            records[2].num_labels
        ),
        (None, 0.0, 0)
    );
    assert_eq!(records[3].num_labels, LENS.iter().sum::<u64>());
    // The next step begins with the parameters that the one before left.
    let (_, control) = run(&options(3), "adaptive").unwrap();
    let apart = (loss(&records[3]) / loss(&control[2]) - 1.0).abs();
    assert!(apart < 1e-4, "off by {apart:.1e}");
}
