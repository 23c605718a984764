//! The adaptive planner and every bound beside the best plan there is, on inputs tiny enough to try everything.

mod common;

use common::{Case, Size, cases};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Speed, StrategyKind, StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use lengthwise_plan::{Planned, PlannerKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const SIZE: Size = Size {
    num_nodes: 2,
    devices_per_node: 4,
    num_sequences: 7,
    seq_len: 60_000,
};

fn plan(kind: PlannerKind, case: &Case) -> Option<Planned> {
    kind.planner().plan(case.problem()).ok()
}

/// Whether `bound` is at most `time` but for the last digits of a sum.
fn bounds(bound: f64, time: f64) -> bool {
    bound <= time * (1.0 + 1e-9)
}

#[test]
fn adaptive_is_nearly_always_optimal_and_bounds_never_exceed_the_optimum() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut num_feasible, mut num_optimal, mut worst) = (0, 0, 0.0f64);
    let num_cases =
        std::env::var("LENGTHWISE_ORACLE_CASES").map_or(1000, |cases| cases.parse().unwrap());
    for _ in 0..num_cases {
        let case = cases(SIZE).new_tree(&mut runner).unwrap().current();
        let Some(optimum) = plan(PlannerKind::Exhaustive, &case) else {
            continue;
        };
        let valid = optimum
            .plan
            .validate(&case.batch, &case.cluster, &case.space, &case.cost);
        assert_eq!(valid, Ok(()));
        let best = optimum.report.predicted_step.get();
        for kind in ["adaptive", "static", "batch-adaptive"] {
            let Some(planned) = plan(kind.parse().unwrap(), &case) else {
                assert_ne!(kind, "adaptive");
                continue;
            };
            let bound = planned.report.lower_bound.get();
            assert!(
                bounds(bound, best),
                "{kind}: bound {bound}, optimum {best}, {case:?}"
            );
            assert!(
                bounds(best, planned.report.predicted_step.get()),
                "{kind} beats the oracle: {case:?}"
            );
        }
        let time = plan(PlannerKind::Adaptive, &case)
            .unwrap()
            .report
            .predicted_step
            .get();
        num_feasible += 1;
        num_optimal += usize::from(bounds(time, best));
        let devices = case.cluster.devices();
        if devices.iter().all(|device| *device == devices[0]) {
            worst = worst.max(time / best - 1.0);
        }
    }
    assert!(num_feasible * 2 > num_cases);
    assert!(
        num_optimal * 100 >= num_feasible * 95,
        "{num_optimal} of {num_feasible} are optimal"
    );
    assert!(
        worst <= 0.02,
        "the worst on equal devices is {worst} above the optimum"
    );
}

#[test]
fn flexsp_solves_one_micro_batch_of_few_lengths_to_the_optimum() {
    // One node, time alone matters, no overhead: the best plan is one micro-batch, and every length its own bucket.
    let degrees = [1, 2, 4].map(|degree| Degree::new(degree).unwrap());
    for lens in [
        vec![900, 500, 400, 100],
        vec![2000, 700, 700, 300, 100],
        vec![64, 64, 64],
    ] {
        let case = Case {
            batch: GlobalBatch::from_lens(lens).unwrap(),
            cluster: Cluster::uniform(1, 4, Device::new(Bytes::from_mib(64), Speed::NOMINAL))
                .unwrap(),
            cost: FittedModel::new(FittedCosts {
                micro_batch_overhead_s: 1.0,
                ..FittedCosts::of_kind(
                    StrategyKind::ulysses(Activations::Recompute),
                    KindCosts {
                        quadratic_s_per_token2: 1e-9,
                        linear_s_per_token: 1e-6,
                        exchange_s_per_token: vec![(degrees[1], 1e-7)],
                        ..KindCosts::default()
                    },
                )
            })
            .unwrap(),
            space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
        };
        let best = plan(PlannerKind::Exhaustive, &case)
            .unwrap()
            .report
            .predicted_step;
        let solved = plan(PlannerKind::FlexSp, &case)
            .unwrap()
            .report
            .predicted_step;
        assert!(bounds(solved.get(), best.get()), "{solved} is above {best}");
    }
}
