//! Bounds and plans compared with the optimum where the exhaustive planner ends: 10 to 12 sequences on up to 12 devices.

mod common;

use common::exact::{best_step, has_equal_devices};
use common::few::few_sequences;
use common::{Case, Size, cases, sample};
use lengthwise_plan::{Exhaustive, Planned, PlannerKind};

const SIZE: Size = Size {
    num_nodes: 2,
    devices_per_node: 6,
    num_sequences: 12,
    seq_len: 60_000,
};

/// The difference that summing in another order may make.
const ROUNDING: f64 = 1e-9;

fn plan(kind: PlannerKind, case: &Case) -> Option<Planned> {
    kind.planner().plan(case.problem()).ok()
}

/// How plans and bounds compare with the optimum over many problems.
#[derive(Debug, Default)]
struct Comparison {
    num: usize,
    num_optimal: usize,
    /// By how much the plan exceeds the optimum at worst.
    worst_plan: f64,
    /// How far the bound is below the optimum: on average, and at worst.
    mean_gap: f64,
    worst_gap: f64,
}

/// Checks the bounds of all planners, and that no plan is faster than the optimum.
fn compare(cases: impl Iterator<Item = Case>) -> Comparison {
    let mut all = Comparison::default();
    for case in cases {
        let Some(best) = best_step(&case) else {
            assert!(plan(PlannerKind::Adaptive, &case).is_none(), "{case:?}");
            continue;
        };
        let planned = plan(PlannerKind::Adaptive, &case).unwrap();
        let others = [PlannerKind::Static(None), PlannerKind::BatchAdaptive];
        let others = others.map(|kind| plan(kind, &case));
        for planned in others.iter().flatten().chain([&planned]) {
            let bound = planned.report.lower_bound.get();
            let time = planned.report.predicted_step.get();
            assert!(
                bound <= best * (1.0 + ROUNDING),
                "the bound {bound} is above the optimum {best}: {case:?}"
            );
            assert!(
                best <= time * (1.0 + ROUNDING),
                "a plan of {time} is below the optimum {best}: {case:?}"
            );
        }
        let excess = planned.report.predicted_step.get() / best - 1.0;
        let gap = 1.0 - planned.report.lower_bound.get() / best;
        all.num += 1;
        all.num_optimal += usize::from(excess <= ROUNDING);
        all.worst_plan = all.worst_plan.max(excess);
        all.mean_gap += gap;
        all.worst_gap = all.worst_gap.max(gap);
    }
    all.mean_gap /= all.num as f64;
    all
}

/// Problems that the exhaustive planner refuses.
fn beyond_enumeration(case: &Case) -> bool {
    case.batch.num_sequences() > Exhaustive::MAX_SEQUENCES
        && case.cluster.num_devices() <= 12
        && has_equal_devices(case)
}

#[test]
fn the_optimum_is_that_of_the_exhaustive_planner_where_it_goes_as_far() {
    let small = Size {
        num_sequences: 7,
        devices_per_node: 4,
        ..SIZE
    };
    let mut num = 0;
    for case in sample(cases(small), 21, 300).filter(has_equal_devices) {
        let exhaustive = plan(PlannerKind::Exhaustive, &case);
        match (best_step(&case), exhaustive) {
            (None, None) => {}
            (Some(best), Some(planned)) => {
                let time = planned.report.predicted_step.get();
                assert!(
                    (best / time - 1.0).abs() <= ROUNDING,
                    "{best}, {time}: {case:?}"
                );
                num += 1;
            }
            (best, planned) => panic!("{best:?} but {planned:?}: {case:?}"),
        }
    }
    assert!(num > 80, "{num}");
}

#[test]
fn bounds_hold_and_plans_are_near_the_optimum_of_a_dozen_sequences_of_any_kind() {
    let all = compare(sample(cases(SIZE), 22, 600).filter(beyond_enumeration));
    assert!(all.num >= 40, "{all:?}");
    assert!(all.num_optimal * 100 >= all.num * 90, "{all:?}");
    assert!(all.worst_plan <= 0.01, "{all:?}");
    assert!(all.mean_gap <= 0.05, "{all:?}");
}

#[test]
fn bounds_hold_and_plans_are_near_the_optimum_of_a_dozen_long_tailed_sequences() {
    let all = compare(sample(few_sequences(10..=12), 23, 160).filter(beyond_enumeration));
    assert!(all.num >= 20, "{all:?}");
    assert!(all.num_optimal * 2 >= all.num, "{all:?}");
    assert!(all.worst_plan <= 0.02, "{all:?}");
    assert!(all.mean_gap <= 0.01, "{all:?}");
}
