//! Strategy spaces with several strategies of one degree: activations kept, which is fast, or recomputed, which is small.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Case, recorded_lens};
use lengthwise_core::Strategy as GroupStrategy;
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyFamily,
    StrategyKind, StrategySpace,
};
use lengthwise_cost::{AnalyticModel, FittedCosts, FittedModel, Hardware, KindCosts, ModelKind};
use lengthwise_plan::{Adaptive, PlanError, Planned, Planner, PlannerKind};
use proptest::collection::vec;
use proptest::prelude::*;

const KINDS: [Activations; 2] = [Activations::Keep, Activations::Recompute];

fn degree(degree: u32) -> Degree {
    Degree::new(degree).unwrap()
}

/// Keeping activations takes 3/4 of the time and four times the memory.
fn costs() -> FittedModel {
    let of_kind = |activations| {
        let (time, memory) = match activations {
            Activations::Keep => (0.75, 4.0),
            _ => (1.0, 1.0),
        };
        let costs = KindCosts {
            quadratic_s_per_token2: 1e-9 * time,
            linear_s_per_token: 1e-5 * time,
            exchange_s_per_token: vec![(degree(2), 1e-6)],
            memory_bytes_per_token: vec![(degree(1), memory)],
            ..KindCosts::default()
        };
        (StrategyKind::ulysses(activations), costs)
    };
    FittedModel::new(FittedCosts {
        micro_batch_overhead_s: 0.01,
        kinds: BTreeMap::from(KINDS.map(of_kind)),
        ..FittedCosts::default()
    })
    .unwrap()
}

fn case(lens: &[u64], num_devices: u32, kinds: &[Activations]) -> Case {
    let degrees = [1, 2, 4].map(degree);
    let of_kind = |&kind| degrees.map(|degree| GroupStrategy::ulysses(degree, kind));
    let device = Device::new(Bytes(10_000), Speed::NOMINAL);
    Case {
        batch: GlobalBatch::from_lens(lens.iter().copied()).unwrap(),
        cluster: Cluster::uniform(1, num_devices, device).unwrap(),
        cost: costs(),
        space: StrategySpace::new(kinds.iter().flat_map(of_kind)).unwrap(),
        rules: PlanRules::default(),
    }
}

fn plan(planner: &str, case: &Case) -> Result<Planned, PlanError> {
    let kind: PlannerKind = planner.parse().unwrap();
    let planned = kind.planner().plan(case.problem())?;
    let checked = case.validate(&planned.plan);
    assert_eq!(checked, Ok(()), "{planner}");
    Ok(planned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_choice_of_kinds_is_never_worse_than_one_of_them(lens in vec(100u64..9_000, 1..16)) {
        let step = |planner, kinds: &[Activations]| {
            let planned = plan(planner, &case(&lens, 4, kinds));
            planned.map(|planned| planned.report.predicted_step.get())
        };
        for planner in ["static", "batch-adaptive"] {
            step(planner, &KINDS).unwrap();
        }
        let both = step("adaptive", &KINDS).unwrap();
        for kind in KINDS {
            if let Ok(one) = step("adaptive", &[kind]) {
                prop_assert!(both <= one * (1.0 + 1e-9), "{both} > {one} of {kind}");
            }
        }
    }

    #[test]
    fn bounds_hold_and_few_sequences_are_planned_optimally(lens in vec(100u64..9_000, 1..5)) {
        let case = case(&lens, 4, &KINDS);
        plan("flexsp", &case).unwrap();
        let best = plan("exhaustive", &case).unwrap().report.predicted_step.get();
        // As few as these are enumerated otherwise, and compared with themselves.
        let search = Adaptive::default().without_enumeration();
        let adaptive = search.plan(case.problem()).unwrap().report;
        prop_assert!(adaptive.tried.num_drafts > 0);
        prop_assert!(adaptive.lower_bound.get() <= best * (1.0 + 1e-9));
        prop_assert!(adaptive.predicted_step.get() <= best * 1.01);
    }
}

#[test]
fn what_fits_is_kept_and_only_what_does_not_is_recomputed() {
    let kinds = |lens: &[u64]| {
        let planned = plan("adaptive", &case(lens, 4, &KINDS)).unwrap();
        let groups = planned.plan.micro_batches().iter();
        let groups = groups.flat_map(|one| &one.groups);
        let kinds: Vec<Activations> = groups.map(|group| group.strategy.activations()).collect();
        kinds
    };
    assert_eq!(kinds(&[2_000; 4]), [Activations::Keep; 4]);
    assert_eq!(kinds(&[39_000]), [Activations::Recompute]);
}

#[test]
fn a_kind_that_only_costs_memory_makes_no_plan_worse() {
    // 200 lengths, of which hardly any fits a device with activations kept.
    let lens: Vec<u64> = (0..200).map(|index| 500 + index * index % 4_001).collect();
    let step = |kinds: &[Activations]| {
        let planned = plan("adaptive", &case(&lens, 8, kinds)).unwrap();
        planned.report.predicted_step.get()
    };
    let both = step(&KINDS);
    for kind in KINDS {
        assert!(both <= step(&[kind]) * (1.0 + 1e-9));
    }
}

/// On devices whose memory decides: what is cheap in time alone fills it before all sequences have a place.
#[test]
fn more_choices_for_activations_make_no_step_longer_by_much() {
    let clusters = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters");
    let hardware = Hardware::read(&clusters.join("a100-8x8.toml")).unwrap();
    let architecture = ModelKind::Gpt7B.architecture(384 << 10);
    let analytic = AnalyticModel::new(architecture, hardware);
    for name in ["wikipedia_384k_7b_0", "github_synth_384k_7b_0"] {
        let step = |activations: &[Activations]| {
            let space = analytic.space_of(&StrategyFamily::ALL, activations, None);
            let case = Case {
                batch: GlobalBatch::from_lens(recorded_lens(name)).unwrap(),
                cluster: analytic.cluster().unwrap(),
                cost: analytic.model().unwrap(),
                space: space.unwrap(),
                rules: PlanRules::default(),
            };
            let planned = plan("adaptive", &case).unwrap();
            planned.report.predicted_step.get()
        };
        let all = step(&Activations::ALL);
        for activations in Activations::ALL {
            let one = step(&[activations]);
            assert!(all <= one * 1.001, "{name}: {all} > {one} of {activations}");
        }
    }
}

#[test]
fn times_that_can_not_be_summed_up_are_refused() {
    let kind = StrategyKind::ulysses(Activations::Keep);
    let costs = KindCosts {
        linear_s_per_token: 1e300,
        ..KindCosts::default()
    };
    let case = Case {
        cost: FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap(),
        ..case(&[100, 200], 4, &[Activations::Keep])
    };
    for planner in ["static", "flexsp", "adaptive"] {
        let error = plan(planner, &case).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a sequence of 100 tokens is predicted to take 1e302 s at degree 1; more than 1e18 s can't be planned with"
        );
    }
}

#[test]
fn strategies_without_costs_are_refused_by_name() {
    let mut case = case(&[100], 4, &KINDS);
    let ring = GroupStrategy::new(degree(2), degree(2), Activations::Keep).unwrap();
    case.space = StrategySpace::new([ring]).unwrap();
    for planner in [
        "static",
        "batch-adaptive",
        "flexsp",
        "exhaustive",
        "adaptive",
    ] {
        let error = plan(planner, &case).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the costs say nothing of the strategy 2x2 keep; nothing can be planned with it"
        );
    }
}
