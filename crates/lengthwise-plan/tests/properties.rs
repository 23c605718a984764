//! Properties of every planner on every problem.

mod common;

use common::{Case, Size, cases};
use lengthwise_core::{
    Activations, Bytes, Cluster, Device, GlobalBatch, MemoryModel, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts, predict_step};
use lengthwise_plan::{PlanError, Planned, PlannerKind};
use proptest::prelude::*;

const SIZE: Size = Size {
    num_nodes: 3,
    devices_per_node: 8,
    num_sequences: 40,
    seq_len: 60_000,
};

fn plan(kind: &str, case: &Case) -> Result<Planned, PlanError> {
    let planner = kind.parse::<PlannerKind>().unwrap().planner();
    planner.plan(case.problem())
}

/// Whether each sequence fits some group by itself, reckoned without the planner's tables.
fn feasible(case: &Case) -> bool {
    let mut budgets: Vec<_> = case
        .cluster
        .devices()
        .iter()
        .map(|device| case.cost.budget(device))
        .collect();
    budgets.sort();
    budgets.reverse();
    case.batch.seq_lens().iter().all(|&seq_len| {
        case.space.strategies().iter().any(|&strategy| {
            let weakest = budgets.get(strategy.degree().as_usize() - 1);
            weakest.is_some_and(|&budget| case.cost.sequence_memory(strategy, seq_len) <= budget)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn adaptive_plans_exactly_what_is_feasible(case in cases(SIZE)) {
        match plan("adaptive", &case) {
            Ok(planned) => {
                prop_assert!(feasible(&case));
                let valid = case.validate(&planned.plan);
                prop_assert_eq!(valid, Ok(()));
                let report = planned.report;
                let predicted = predict_step(&planned.plan, &case.batch, &case.cluster, &case.cost);
                prop_assert_eq!(report.predicted_step, predicted);
                prop_assert!(report.lower_bound <= predicted);
            }
            Err(error) => {
                prop_assert!(!feasible(&case), "{}", error);
                prop_assert!(error.hint().is_some());
            }
        }
    }

    #[test]
    fn static_plans_are_valid_and_never_beat_the_bound(case in cases(SIZE)) {
        let planned = plan("static", &case);
        // Where the longest sequence fits, the others fit.
        prop_assert_eq!(planned.is_ok(), feasible(&case), "{:?}", planned);
        if let Ok(planned) = planned {
            let valid = case.validate(&planned.plan);
            prop_assert_eq!(valid, Ok(()));
            prop_assert!(planned.report.lower_bound <= planned.report.predicted_step);
            let degrees = planned.plan.degrees().concat();
            prop_assert!(degrees.iter().all(|&degree| degree == degrees[0]));
        }
    }
}

#[test]
fn batches_that_take_no_time_are_planned() {
    let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
    let case = Case {
        batch: GlobalBatch::from_lens((1..200).map(|index| index % 50 + 1)).unwrap(),
        cluster: Cluster::uniform(7, 3, device).unwrap(),
        cost: FittedModel::new(FittedCosts::of_kind(
            StrategyKind::ulysses(Activations::Recompute),
            KindCosts::default(),
        ))
        .unwrap(),
        space: StrategySpace::ulysses_up_to(19, Activations::Recompute).unwrap(),
        rules: PlanRules::default(),
    };
    let planned = plan("adaptive", &case).unwrap();
    let valid = case.validate(&planned.plan);
    assert_eq!(valid, Ok(()));
}
