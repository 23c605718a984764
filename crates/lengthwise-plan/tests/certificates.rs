//! Certificates of random problems and recorded batches hold, and prove the bound that was reported.

mod common;

use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use common::{Case, Size, cases, cases_with_rules, recorded_lens};
use lengthwise_certificate::{Certificate, Proof, Verified, check_source, verify};
use lengthwise_core::{Degree, GlobalBatch, PlanRules, TokenCap, Tokens};
use lengthwise_cost::Profile;
use lengthwise_plan::{Adaptive, Planned, Planner, PlannerKind, PlannerOptions, StopReason};
use proptest::prelude::*;

const SIZE: Size = Size {
    num_nodes: 3,
    devices_per_node: 4,
    num_sequences: 30,
    seq_len: 60_000,
};

const TINY: Size = Size {
    num_nodes: 2,
    devices_per_node: 3,
    num_sequences: 6,
    seq_len: 60_000,
};

/// The bound that a plan's certificate proves, once it has been written and read back.
fn verified(planned: &Planned, case: &Case) -> Result<Verified, TestCaseError> {
    let certificate = planned.certificate().expect("it was asked for");
    let json = certificate.to_json().unwrap();
    let read = Certificate::parse(json.as_bytes()).unwrap();
    let refused = |refusal| TestCaseError::fail(format!("{refusal}\n{json}"));
    let verified = verify(&read).map_err(refused)?;
    check_source(&read, &case.cluster, &case.cost).map_err(refused)?;
    let report = &planned.report;
    prop_assert!(near(verified.plan_step.get(), report.predicted_step.get()));
    prop_assert!(verified.bound.get() <= report.lower_bound.get() * (1.0 + 1e-9));
    Ok(verified)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b
}

/// Whether the bound that was proven is the one that was reported.
fn proves_all(planned: &Planned, case: &Case) -> Result<bool, TestCaseError> {
    let verified = verified(planned, case)?;
    Ok(near(verified.bound.get(), planned.report.lower_bound.get()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn certificates_prove_what_was_reported(case in cases_with_rules(SIZE)) {
        for kind in ["adaptive", "batch-adaptive", "flexsp", "megatron", "static"] {
            let planner = kind.parse::<PlannerKind>().unwrap().planner();
            if let Ok(planned) = planner.plan_certified(case.problem()) {
                let was_enumerated = kind == "adaptive" && planned.report.tried.num_drafts == 0;
                prop_assert!(proves_all(&planned, &case)? || was_enumerated);
            }
        }
    }

    #[test]
    fn no_certificate_proves_more_than_the_optimum(case in cases_with_rules(TINY)) {
        if let Ok(best) = PlannerKind::Exhaustive.planner().plan_certified(case.problem()) {
            let optimum = best.report.predicted_step.get();
            let searched = Adaptive::new(PlannerOptions::default()).without_enumeration();
            let searched = searched.plan_certified(case.problem()).ok();
            for planned in [best].iter().chain(&searched) {
                let verified = verified(planned, &case)?;
                prop_assert!(verified.recomputed.get() <= optimum * (1.0 + 1e-9));
            }
        }
    }

    #[test]
    fn what_is_planned_in_no_time_has_a_certificate(case in cases(SIZE)) {
        let options = PlannerOptions::default().with_time_budget(Duration::ZERO);
        if let Ok(planned) = PlannerKind::Adaptive.planner_with(options).plan_certified(case.problem()) {
            prop_assert!(proves_all(&planned, &case)?);
        }
    }
}

/// Plans that were found by enumeration mostly prove themselves by a tree, too, where devices are equal.
#[test]
fn most_enumerated_plans_are_proven_to_be_best() {
    let (mut num, mut num_proven) = (0, 0);
    for case in common::sample(cases(TINY), 7, 200) {
        let devices = case.cluster.devices();
        if devices.iter().any(|device| *device != devices[0]) {
            continue;
        }
        if let Ok(planned) = PlannerKind::Exhaustive
            .planner()
            .plan_certified(case.problem())
        {
            num += 1;
            num_proven += usize::from(proves_all(&planned, &case).unwrap());
        }
    }
    assert!(
        num > 50 && num_proven * 10 >= num * 9,
        "{num_proven} of {num}"
    );
}

/// The published costs, for so many devices.
fn published(lens: Vec<u64>, profile: &str, num_devices: Option<u32>, rules: PlanRules) -> Case {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let profile = Profile::read(&examples.join("profiles").join(profile)).unwrap();
    let cluster = profile.cluster(num_devices).unwrap();
    Case {
        batch: GlobalBatch::from_lens(lens).unwrap(),
        cost: profile.model(&cluster).unwrap(),
        space: profile.space(&cluster).unwrap(),
        cluster,
        rules,
    }
}

const BATCHES: [(&str, &str); 6] = [
    ("wikipedia_384k_7b_0", "a100-gpt-7b-384k.toml"),
    ("wikipedia_384k_7b_1", "a100-gpt-7b-384k.toml"),
    ("wikipedia_384k_7b_2", "a100-gpt-7b-384k.toml"),
    ("wikipedia_384k_13b_0", "a100-gpt-13b-384k.toml"),
    ("github_synth_384k_7b_0", "a100-gpt-7b-384k.toml"),
    ("cc_synth_384k_7b_0", "a100-gpt-7b-384k.toml"),
];

#[test]
fn recorded_batches_are_certified_with_and_without_rules() {
    let rules = PlanRules {
        no_idle_ranks: true,
        aligned_powers_of_two: true,
        token_cap: Some(TokenCap {
            tokens_per_rank: Tokens(6_407),
            replaces_memory: true,
        }),
        micro_batches_multiple_of: NonZero::new(2).unwrap(),
        max_sequences_per_group: NonZero::new(64),
        min_degree: Degree::new(2).unwrap(),
    };
    for (name, profile) in BATCHES {
        for rules in [PlanRules::default(), rules] {
            let case = published(recorded_lens(name), profile, None, rules);
            let planned = PlannerKind::Adaptive
                .planner()
                .plan_certified(case.problem())
                .unwrap();
            assert!(proves_all(&planned, &case).unwrap(), "{name} {rules}");
        }
    }
}

#[test]
fn bounds_of_patterns_are_certified() {
    let lens = recorded_lens("deep/lognormal_192k_7b_0");
    let case = published(
        lens,
        "a100-gpt-7b-192k.toml",
        Some(32),
        PlanRules::default(),
    );
    let planned = PlannerKind::Adaptive
        .planner()
        .plan_certified(case.problem())
        .unwrap();
    let certificate = planned.certificate().unwrap();
    assert!(matches!(certificate.proof, Proof::Patterns { .. }));
    assert!(proves_all(&planned, &case).unwrap());
}

#[test]
fn certificates_of_few_communicators_range_over_their_degrees_alone() {
    let case = published(
        recorded_lens("wikipedia_384k_7b_0"),
        "a100-gpt-7b-384k.toml",
        None,
        PlanRules::default(),
    );
    let options = PlannerOptions::default().with_max_communicators(31);
    let planner = PlannerKind::Adaptive.planner_with(options);
    let planned = planner.plan_certified(case.problem()).unwrap();
    assert!(proves_all(&planned, &case).unwrap());
    let verified = verified(&planned, &case).unwrap();
    let degrees: Vec<Degree> = verified.strategies.iter().map(|one| one.degree()).collect();
    assert_eq!(planned.report.bounded_degrees, Some(degrees));
}

#[test]
fn a_certificate_of_a_plan_that_was_cut_short_proves_what_was_reported() {
    let case = published(
        recorded_lens("wikipedia_384k_7b_1"),
        "a100-gpt-7b-384k.toml",
        None,
        PlanRules::default(),
    );
    for budget_us in [1, 2_000, 5_000, 10_000, 20_000] {
        let options = PlannerOptions::default().with_time_budget(Duration::from_micros(budget_us));
        let planner = PlannerKind::Adaptive.planner_with(options);
        let planned = planner.plan_certified(case.problem()).unwrap();
        let is_cut = planned.report.stop_reason != StopReason::Converged;
        assert!(is_cut || budget_us > 1);
        assert!(proves_all(&planned, &case).unwrap(), "{budget_us} us");
    }
}

#[test]
fn plans_that_were_not_asked_for_a_certificate_have_none() {
    let case = published(
        vec![5_000; 20],
        "a100-gpt-7b-384k.toml",
        None,
        PlanRules::default(),
    );
    let planned = PlannerKind::Adaptive
        .planner()
        .plan(case.problem())
        .unwrap();
    assert_eq!(planned.certificate(), None);
}
