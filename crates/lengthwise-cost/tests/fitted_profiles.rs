//! Profiles that are fitted to micro-batches from elsewhere.

use lengthwise_core::{Activations, Degree, Seconds, Strategy, Tokens};
use lengthwise_cost::format::StrategyRecord;
use lengthwise_cost::{
    CostModel, FittedModel, GroupShape, MeasuredGroup, MeasuredParts, Measurement, Profile,
    ProfileError, Span,
};

fn profile(name: &str) -> Profile {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/profiles");
    let path = format!("{examples}/{name}.toml");
    Profile::read(path.as_ref()).unwrap()
}

fn group(degree: u32, crosses_nodes: bool, seq_lens: &[u64]) -> MeasuredGroup {
    let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute);
    MeasuredGroup {
        count: 1,
        strategy: StrategyRecord(strategy),
        crosses_nodes,
        seq_lens_tokens: seq_lens.to_vec(),
    }
}

fn group_time(group: &MeasuredGroup, model: &FittedModel) -> Seconds {
    let span = if group.crosses_nodes {
        Span::ManyNodes
    } else {
        Span::OneNode
    };
    let shape = GroupShape {
        strategy: group.strategy.0,
        span,
    };
    let seq_lens = group.seq_lens_tokens.iter();
    seq_lens
        .map(|&seq_len| model.sequence_time(shape, Tokens(seq_len)))
        .sum()
}

/// The profile's prediction for groups side by side, as if it had been measured.
fn measured(truth: &Profile, groups: Vec<MeasuredGroup>) -> Measurement {
    let cluster = truth.cluster(None).unwrap();
    let model = truth.model(&cluster).unwrap();
    let slowest = groups.iter().map(|group| group_time(group, &model));
    let slowest = slowest.fold(Seconds::ZERO, Seconds::max);
    let held = |group: &MeasuredGroup| {
        let tokens: u64 = group.seq_lens_tokens.iter().sum();
        model.memory_bytes_per_token(group.strategy.0) * tokens as f64
    };
    let held = groups.iter().map(held).fold(0.0, f64::max);
    Measurement {
        held_out: false,
        runs: 3,
        measured_s: (model.micro_batch_overhead() + slowest).get(),
        predicted_s: 0.0,
        peak_memory_bytes: (model.costs().fixed_memory_bytes + held) as u64,
        parts: MeasuredParts::default(),
        groups,
    }
}

fn runs(truth: &Profile) -> Vec<Measurement> {
    let mut runs = Vec::new();
    for (degree, crosses_nodes) in [(1, false), (2, false), (8, false), (16, true), (64, true)] {
        for seq_len in [1000, 8000, 40_000] {
            let groups = vec![group(degree, crosses_nodes, &[seq_len, 500])];
            runs.push(measured(truth, groups));
        }
    }
    // Of unequal groups the slowest counts, and it is not the first.
    let groups = vec![group(2, false, &[300]), group(4, false, &[60_000])];
    runs.push(measured(truth, groups));
    runs
}

/// The published costs under another profile's devices, each a few times as high.
fn start_and_truth() -> (Profile, Profile) {
    let truth = profile("a100-gpt-7b-384k");
    let mut start = truth.clone();
    start.overhead.micro_batch_s *= 3.0;
    start.costs[0].linear_s_per_token *= 2.0;
    start.costs[0].quadratic_s_per_token2 *= 0.3;
    start.costs[0].memory_bytes_per_token *= 2.0;
    start.model.fixed_bytes += 1e9;
    (start, truth)
}

#[test]
fn what_follows_another_profile_gives_its_costs_back() {
    let (start, truth) = start_and_truth();
    let mut runs = runs(&truth);
    let mut held_out = measured(&truth, vec![group(4, false, &[20_000, 3000])]);
    held_out.held_out = true;
    runs.push(held_out);
    let fitted = start.fitted_to(runs).unwrap();
    let cluster = truth.cluster(None).unwrap();
    let (model, expected) = (
        fitted.model(&cluster).unwrap(),
        truth.model(&cluster).unwrap(),
    );
    for (degree, crosses_nodes) in [(1, false), (2, false), (4, false), (8, false), (16, true)] {
        let group = group(degree, crosses_nodes, &[5000, 120_000]);
        let (ours, theirs) = (group_time(&group, &model), group_time(&group, &expected));
        assert!(
            (ours / theirs - 1.0).abs() < 0.02,
            "{degree}: {ours} {theirs}"
        );
        let memory = |model: &FittedModel| model.memory_bytes_per_token(group.strategy.0);
        assert!((memory(&model) / memory(&expected) - 1.0).abs() < 1e-3);
    }
    let fixed = |model: &FittedModel| model.costs().fixed_memory_bytes;
    assert!((fixed(&model) / fixed(&expected) - 1.0).abs() < 1e-3);
    let fit = fitted.fit.as_ref().unwrap();
    assert!(fit.fitted_error < 1e-3, "{fit:?}");
    assert!(fit.held_out_error.unwrap() < 0.02, "{fit:?}");
    // A written profile reads back.
    let again = Profile::from_toml(&fitted.to_toml().unwrap()).unwrap();
    assert_eq!(again, fitted);
}

#[test]
fn no_device_is_predicted_to_hold_less_than_it_held() {
    let (start, truth) = start_and_truth();
    let mut runs = runs(&truth);
    for (index, run) in runs.iter_mut().enumerate() {
        run.peak_memory_bytes += [0, 900_000_000, 30_000_000][index % 3];
    }
    let fitted = start.fitted_to(runs.clone()).unwrap();
    let model = fitted.model(&fitted.cluster(None).unwrap()).unwrap();
    for run in &runs {
        let held = run.groups.iter().map(|group| {
            let tokens: u64 = group.seq_lens_tokens.iter().sum();
            model.memory_bytes_per_token(group.strategy.0) * tokens as f64
        });
        let predicted = model.costs().fixed_memory_bytes + held.fold(0.0, f64::max);
        assert!(predicted * (1.0 + 1e-9) >= run.peak_memory_bytes as f64);
    }
}

#[test]
fn what_was_not_measured_stays_as_it_was() {
    let (start, truth) = start_and_truth();
    let mut runs: Vec<Measurement> = runs(&truth);
    runs.retain(|run| run.groups.iter().all(|group| !group.crosses_nodes));
    for run in &mut runs {
        run.peak_memory_bytes = 0;
    }
    let fitted = start.fitted_to(runs).unwrap();
    assert_eq!(fitted.model, start.model);
    let (ours, theirs) = (&fitted.costs[0], &start.costs[0]);
    assert_eq!(ours.memory_bytes_per_token, theirs.memory_bytes_per_token);
    assert_eq!(
        ours.many_nodes_bandwidth_bytes_per_s,
        theirs.many_nodes_bandwidth_bytes_per_s
    );
    assert_ne!(
        ours.one_node_bandwidth_bytes_per_s,
        theirs.one_node_bandwidth_bytes_per_s
    );
}

#[test]
fn micro_batches_that_can_not_be_are_named() {
    let (start, truth) = start_and_truth();
    let complaint = |change: &dyn Fn(&mut Measurement)| {
        let mut runs = runs(&truth);
        change(&mut runs[2]);
        match start.fitted_to(runs) {
            Err(error @ ProfileError::BadMeasurement { index: 2, .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let told = complaint(&|run| run.measured_s = f64::NAN);
    assert_eq!(
        told,
        "measurement 2: measured_s is NaN; it must be finite and above 0"
    );
    let told = complaint(&|run| run.groups.clear());
    assert_eq!(
        told,
        "measurement 2: groups is empty; a micro-batch has at least one"
    );
    let told = complaint(&|run| run.groups[0].count = 65);
    assert_eq!(
        told,
        "measurement 2: its groups have 65 ranks; the profile has 64 devices"
    );
    let told = complaint(&|run| run.groups[0].seq_lens_tokens[0] = 0);
    assert!(told.contains("has a 0"), "{told}");
    let told = complaint(&|run| {
        let strategy = Strategy::ulysses(Degree::ONE, Activations::Keep);
        run.groups[0].strategy = StrategyRecord(strategy);
    });
    assert_eq!(
        told,
        "measurement 2: the profile has no costs of the strategy 1 keep"
    );
    let few = runs(&truth)[..2].to_vec();
    let error = start.fitted_to(few).unwrap_err().to_string();
    assert!(
        error.starts_with("2 measurements are too few for the 3 costs"),
        "{error}"
    );
}

#[test]
fn as_many_runs_as_figures_are_enough_and_fewer_are_not() {
    let (start, truth) = start_and_truth();
    let runs = |num: usize| -> Vec<Measurement> {
        let seq_lens = (1..=num as u64).map(|run| run * 9000);
        seq_lens
            .map(|seq_len| measured(&truth, vec![group(1, false, &[seq_len])]))
            .collect()
    };
    let few = start.fitted_to(runs(1));
    let Err(ProfileError::TooFewMeasurements { num: 1, needed }) = few else {
        panic!("{few:?}");
    };
    let fewer = start.fitted_to(runs(needed - 1));
    assert!(
        matches!(fewer, Err(ProfileError::TooFewMeasurements { num, .. }) if num == needed - 1),
        "{fewer:?}"
    );
    let fitted = start.fitted_to(runs(needed)).unwrap();
    let model = fitted.model(&fitted.cluster(None).unwrap()).unwrap();
    let expected = truth.model(&truth.cluster(None).unwrap()).unwrap();
    let one = group(1, false, &[30_000]);
    let (ours, theirs) = (group_time(&one, &model), group_time(&one, &expected));
    assert!((ours / theirs - 1.0).abs() < 1e-3, "{ours} {theirs}");
}
