//! The published algorithm beside the best plan there is, where its simplifications cost nothing.
//!
//! On equal devices of one node, with no more lengths than buckets, one micro-batch is what the MILP decides alone. So
//! where the best plan has one micro-batch, the MILP's optimum is as good.

mod common;

use common::Case;
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use lengthwise_plan::{FlexSp, MilpSolver, Planned, Planner, PlannerKind, PlannerOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Solvers stop within this part of the optimum: they round and have tolerances.
const SOLVED: f64 = 1e-4;

/// Overheads are long beside makespans, so that the best plan has as few micro-batches as memory allows.
const OVERHEAD_S: f64 = 100.0;

fn cases(num_sequences: usize) -> impl Strategy<Value = Case> {
    let lens = vec(
        prop_oneof![1u64..100, 100u64..5_000, Just(700), Just(4_000)],
        1..=num_sequences,
    );
    let degrees = prop_oneof![
        Just(vec![1, 2, 4, 8]),
        Just(vec![1, 2, 3, 4, 5, 6, 7, 8]),
        vec(1u32..=4, 1..3),
    ];
    let figures = (0.0..4e-9, 1e-6..1e-5, 0.0..4e-6, 0.0..2e-6);
    // From memory for a part of the batch to memory for all of it.
    (lens, 1u32..=8, degrees, figures, 0.05..1.5).prop_map(
        |(lens, num_devices, degrees, (quadratic, linear, two, eight), share)| {
            let degrees: Vec<Degree> = degrees
                .into_iter()
                .map(|degree| Degree::new(degree).unwrap())
                .collect();
            let tokens = lens.iter().sum::<u64>() as f64;
            let memory = Bytes((share * tokens) as u64 + 1);
            let degree = |degree| Degree::new(degree).unwrap();
            Case {
                batch: GlobalBatch::from_lens(lens).unwrap(),
                cluster: Cluster::uniform(1, num_devices, Device::new(memory, Speed::NOMINAL))
                    .unwrap(),
                cost: FittedModel::new(FittedCosts {
                    micro_batch_overhead_s: OVERHEAD_S,
                    ..FittedCosts::of_kind(
                        StrategyKind::ulysses(Activations::Recompute),
                        KindCosts {
                            quadratic_s_per_token2: quadratic,
                            linear_s_per_token: linear,
                            exchange_s_per_token: vec![(degree(2), two), (degree(8), eight)],
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

fn makespans(planned: &Planned) -> f64 {
    let overheads = planned.plan.micro_batches().len() as f64 * OVERHEAD_S;
    planned.report.predicted_step.get() - overheads
}

fn solves_to_the_optimum(solver: MilpSolver, num_cases: usize) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[16; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut num_compared, mut num_mixed) = (0, 0);
    for _ in 0..num_cases {
        let case = cases(7).new_tree(&mut runner).unwrap().current();
        let Ok(best) = PlannerKind::Exhaustive.planner().plan(case.problem()) else {
            continue;
        };
        let flexsp = FlexSp::new(PlannerOptions::default()).with_solver(solver);
        let planned = flexsp.plan(case.problem()).unwrap();
        let valid = case.validate(&planned.plan);
        assert_eq!(valid, Ok(()));
        if best.plan.micro_batches().len() > 1 {
            continue;
        }
        let (ours, least) = (makespans(&planned), makespans(&best));
        assert!(
            ours <= least * (1.0 + SOLVED) + 1e-12,
            "{ours} is above the optimum {least}: {case:?}"
        );
        num_compared += 1;
        let degrees = best.plan.degrees().concat();
        num_mixed += usize::from(degrees.iter().any(|&degree| degree != degrees[0]));
    }
    assert!(num_compared * 3 > num_cases, "{num_compared} were compared");
    assert!(
        num_mixed * 10 > num_compared,
        "{num_mixed} had mixed degrees"
    );
}

#[test]
fn the_default_solver_finds_the_best_micro_batch() {
    solves_to_the_optimum(MilpSolver::Microlp, 3000);
}

#[cfg(feature = "highs")]
#[test]
fn highs_finds_the_best_micro_batch() {
    solves_to_the_optimum(MilpSolver::Highs, 1500);
}

#[cfg(feature = "highs")]
#[test]
fn both_solvers_find_the_same_makespans() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[61; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut num_planned, mut num_cut) = (0, 0);
    for _ in 0..1000 {
        let case = cases(10).new_tree(&mut runner).unwrap().current();
        let plan = |solver| {
            let flexsp = FlexSp::new(PlannerOptions::default()).with_solver(solver);
            flexsp.plan(case.problem()).ok()
        };
        let (ours, theirs) = (plan(MilpSolver::Microlp), plan(MilpSolver::Highs));
        assert_eq!(ours.is_some(), theirs.is_some());
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            num_cut += usize::from(ours.plan.micro_batches().len() > 1);
            let (ours, theirs) = (makespans(&ours), makespans(&theirs));
            assert!(
                (ours / theirs - 1.0).abs() <= SOLVED,
                "{ours} and {theirs}: {case:?}"
            );
            num_planned += 1;
        }
    }
    assert!(num_planned > 700, "{num_planned} could be planned");
    assert!(num_cut > 80, "{num_cut} had several micro-batches");
}
