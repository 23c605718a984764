//! Batches that take dozens of micro-batches and more: planned well, and in time that grows with them.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Case, recorded_lens};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts, Profile};
use lengthwise_plan::{Planned, PlannerKind, Problem, StopReason};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The published costs, for so many devices.
fn published(lens: Vec<u64>, profile: &str, num_devices: u32) -> Case {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let profile = Profile::read(&examples.join("profiles").join(profile)).unwrap();
    let cluster = profile.cluster(Some(num_devices)).unwrap();
    Case {
        rules: PlanRules::default(),
        batch: GlobalBatch::from_lens(lens).unwrap(),
        cost: profile.model(&cluster).unwrap(),
        space: profile.space(&cluster).unwrap(),
        cluster,
    }
}

fn plan(kind: PlannerKind, problem: Problem<'_>) -> Planned {
    let planned = kind.planner().plan(problem).unwrap();
    let valid = planned.plan.validate(
        problem.batch,
        problem.cluster,
        problem.space,
        problem.cost,
        &PlanRules::default(),
    );
    assert_eq!(valid, Ok(()));
    planned
}

#[test]
fn a_thousand_micro_batches_are_planned_within_two_per_cent() {
    let lens = recorded_lens("deep/lognormal_192k_7b_0");
    assert_eq!(lens.len(), 8192);
    let case = published(lens, "a100-gpt-7b-192k.toml", 32);
    let planned = plan(PlannerKind::Adaptive, case.problem());
    let gap = planned.report.gap().unwrap();
    assert!(gap <= 0.02, "the gap is {gap}");
    let batch_adaptive = plan(PlannerKind::BatchAdaptive, case.problem()).report;
    assert!(planned.report.predicted_step <= batch_adaptive.predicted_step);
    // The proof does not depend on the planner that asks.
    let difference = planned.report.lower_bound.get() / batch_adaptive.lower_bound.get() - 1.0;
    assert!(difference.abs() < 1e-9, "{difference}");
}

#[test]
fn sequences_that_need_all_devices_each_are_planned_at_best() {
    let case = published((250_000..258_000).collect(), "a100-gpt-7b-384k.toml", 64);
    let planned = plan(PlannerKind::Adaptive, case.problem());
    assert_eq!(planned.plan.micro_batches().len(), 8000);
    assert_eq!(planned.report.stop_reason, StopReason::Optimal);
}

#[test]
fn planning_time_grows_with_the_number_of_micro_batches() {
    let quickest = |num: u64| {
        let case = published(
            (250_000..250_000 + num).collect(),
            "a100-gpt-7b-384k.toml",
            64,
        );
        let attempts = (0..5).map(|_| {
            let started = Instant::now();
            plan(PlannerKind::Adaptive, case.problem());
            started.elapsed()
        });
        attempts.min().unwrap_or(Duration::MAX)
    };
    let (few, many) = (quickest(2000), quickest(16_000));
    // Eight times as many: 64 times the time if it grew with their square.
    assert!(many < 24 * few, "{many:?} for 16,000 and {few:?} for 2,000");
}

fn cases() -> impl Strategy<Value = Case> {
    let lens = vec(
        (0.0f64..11.0).prop_map(|log| log.exp2() as u64 + 1),
        200..600,
    );
    let degrees = prop_oneof![
        Just(vec![1, 2, 4, 8]),
        Just(vec![1, 2, 3, 4, 5, 6, 7, 8]),
        Just(vec![3, 5, 8]),
    ];
    let cluster = (
        1u32..=2,
        8u32..=8,
        260u64..700,
        prop_oneof![Just(1.0), 0.5f64..1.0],
    );
    let figures = (0.0..4e-9, 1e-6..1e-5, 0.0..4e-6, 0.0..0.02);
    (lens, degrees, cluster, figures).prop_map(
        |(
            lens,
            degrees,
            (num_nodes, per_node, memory, slowest),
            (quadratic, linear, eight, overhead),
        )| {
            let degree = |degree| Degree::new(degree).unwrap();
            let degrees: Vec<Degree> = degrees.into_iter().map(degree).collect();
            let device = |speed| Device::new(Bytes(memory), Speed::new(speed).unwrap());
            let mut node = vec![device(1.0); per_node as usize];
            node[0] = device(slowest);
            Case {
                batch: GlobalBatch::from_lens(lens).unwrap(),
                cluster: Cluster::from_nodes(vec![node; num_nodes as usize]).unwrap(),
                cost: FittedModel::new(FittedCosts {
                    micro_batch_overhead_s: overhead,
                    ..FittedCosts::of_kind(
                        StrategyKind::ulysses(Activations::Recompute),
                        KindCosts {
                            quadratic_s_per_token2: quadratic,
                            linear_s_per_token: linear,
                            exchange_s_per_token: vec![
                                (degree(2), eight / 2.0),
                                (degree(8), eight),
                            ],
                            memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
                            ..KindCosts::default()
                        },
                    )
                })
                .unwrap(),
                space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
                rules: PlanRules::default(),
            }
        },
    )
}

#[test]
fn no_plan_beats_the_bound_of_any_planner() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[24; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut num_deep = 0;
    for _ in 0..80 {
        let case = cases().new_tree(&mut runner).unwrap().current();
        let kinds = [PlannerKind::Adaptive, PlannerKind::BatchAdaptive];
        let planned: Vec<Planned> = kinds
            .into_iter()
            .filter_map(|kind| kind.planner().plan(case.problem()).ok())
            .collect();
        for a in &planned {
            let valid = case.validate(&a.plan);
            assert_eq!(valid, Ok(()));
            for b in &planned {
                let (bound, step) = (a.report.lower_bound.get(), b.report.predicted_step.get());
                assert!(bound <= step * (1.0 + 1e-9), "{bound} is above {step}");
            }
        }
        let num_micro_batches = planned.first().map(|p| p.plan.micro_batches().len());
        num_deep += usize::from(num_micro_batches.is_some_and(|num| num >= 30));
    }
    assert!(num_deep >= 10, "{num_deep} took many micro-batches");
}
