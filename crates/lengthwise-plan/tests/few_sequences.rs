//! Few sequences, where each group counts: no other planner's plan is faster, and the best one is near.

mod common;

use std::path::Path;
use std::time::Duration;

use common::few::few_sequences;
use common::{Case, sample};
use lengthwise_core::{Degree, GlobalBatch, PlanRules};
use lengthwise_cost::Profile;
use lengthwise_plan::{Planned, PlannerKind, PlannerOptions};

/// A part of a second that sums in another order may differ by.
const ROUNDING: f64 = 1e-9;

/// MILPs divide the last sequences among two groups to the optimum; trades may leave so much of the step.
const SLIVER: f64 = 1e-4;

/// Batches that plans were once slower for than those of the published algorithm, and by how much the plan may exceed
/// its bound.
const CASES: [(&str, f64); 4] = [
    ("few-sequences-16-devices", 0.04),
    ("few-sequences-32-devices", 0.001),
    ("odd-degrees-8-devices", 0.2),
    ("worse-than-flexsp", 0.001),
];

/// A profile and lengths of `tests/cases`.
fn read(name: &str) -> Case {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let profile = Profile::read(&cases.join(format!("{name}.toml"))).unwrap();
    let lens = std::fs::read_to_string(cases.join(format!("{name}.txt"))).unwrap();
    let cluster = profile.cluster(None).unwrap();
    Case {
        rules: PlanRules::default(),
        batch: GlobalBatch::from_lens(lens.lines().map(|len| len.parse().unwrap())).unwrap(),
        cost: profile.model(&cluster).unwrap(),
        space: profile.space(&cluster).unwrap(),
        cluster,
    }
}

fn adaptive(case: &Case) -> Planned {
    let planned = PlannerKind::Adaptive
        .planner()
        .plan(case.problem())
        .unwrap();
    let valid = case.validate(&planned.plan);
    assert_eq!(valid, Ok(()));
    planned
}

/// The best time of all other planners.
fn others(case: &Case, milp_time: Duration) -> Vec<Planned> {
    let mut kinds = vec![
        PlannerKind::Static(None),
        PlannerKind::BatchAdaptive,
        PlannerKind::FlexSp,
    ];
    let degrees = case.space.degrees();
    kinds.extend(degrees.map(|degree| PlannerKind::Static(Some(degree))));
    let options = PlannerOptions::default().with_time_budget(milp_time);
    let plans = kinds
        .into_iter()
        .map(|kind| kind.planner_with(options).plan(case.problem()));
    plans.filter_map(Result::ok).collect()
}

/// Checks the bound of one planner against the plan of another.
fn assert_is_bound(bounded: &Planned, other: &Planned, case: &Case) {
    let (bound, time) = (bounded.report.lower_bound, other.report.predicted_step);
    assert!(
        bound.get() <= time.get() * (1.0 + ROUNDING),
        "a plan of {time} is below the bound {bound}: {case:?}"
    );
}

/// Checks a plan against those of all other planners.
fn assert_none_is_faster(planned: &Planned, case: &Case, milp_time: Duration) {
    for other in others(case, milp_time) {
        assert_is_bound(planned, &other, case);
        let (ours, theirs) = (planned.report.predicted_step, other.report.predicted_step);
        assert!(
            ours.get() <= theirs.get() * (1.0 + SLIVER),
            "{:?} takes {theirs}, adaptive's {:?} {ours}: {case:?}",
            degrees_of(&other),
            degrees_of(planned),
        );
    }
}

fn degrees_of(planned: &Planned) -> Vec<Vec<u32>> {
    let micro_batches = planned.plan.degrees().into_iter();
    let degrees = micro_batches.map(|degrees| degrees.into_iter().map(Degree::get).collect());
    degrees.collect()
}

#[test]
fn recorded_cases_are_planned_as_fast_as_by_any_planner() {
    for (name, largest_gap) in CASES {
        let case = read(name);
        let planned = adaptive(&case);
        assert_none_is_faster(&planned, &case, Duration::from_secs(2));
        let gap = planned.report.gap().unwrap();
        assert!(gap <= largest_gap, "{name}: the gap is {gap}");
    }
}

#[test]
fn no_planner_is_faster_on_few_sequences() {
    for case in sample(few_sequences(3..=40), 11, 150) {
        assert_none_is_faster(&adaptive(&case), &case, Duration::from_millis(20));
    }
}

#[test]
fn no_bound_is_above_any_plan_of_more_sequences() {
    let milp_time = Duration::from_millis(20);
    for case in sample(few_sequences(41..=500), 12, 40) {
        let planned = adaptive(&case);
        for other in others(&case, milp_time) {
            assert_is_bound(&planned, &other, &case);
            assert_is_bound(&other, &planned, &case);
        }
    }
}
