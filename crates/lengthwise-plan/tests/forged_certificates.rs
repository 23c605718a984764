//! No proof, however it was put together, is taken for one of more than the optimum.

mod common;

use common::{Case, Size, cases_with_rules};
use lengthwise_certificate::{
    Bucket, Capacity, Certificate, Decision, Leaf, OneMicroBatch, Proof, verify,
};
use lengthwise_plan::PlannerKind;
use proptest::collection::vec;
use proptest::prelude::*;

const TINY: Size = Size {
    num_nodes: 2,
    devices_per_node: 3,
    num_sequences: 5,
    seq_len: 60_000,
};

/// One change of a tree: what, where, and by how much.
type Change = (u8, prop::sample::Index, prop::sample::Index, f64);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let factor = prop_oneof![Just(0.0), 0.5f64..2.0, 1e3f64..1e20, Just(1e99)];
    vec(
        (
            0u8..10,
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            factor,
        ),
        0..6,
    )
}

fn change(leaves: &mut Vec<Leaf>, limit: &mut f64, (what, at, of, factor): &Change) {
    if leaves.is_empty() {
        return;
    }
    let num = leaves.len();
    let leaf = &mut leaves[at.index(num)];
    match what {
        0 => *limit *= factor,
        1 => leaf
            .time_prices
            .iter_mut()
            .for_each(|price| *price *= factor),
        2 => leaf
            .capacity_prices
            .iter_mut()
            .for_each(|price| *price *= factor),
        3 => {
            let place = of.index(leaf.time_prices.len());
            leaf.time_prices[place] += factor;
        }
        4 => {
            let place = of.index(leaf.capacity_prices.len());
            leaf.capacity_prices[place] += factor;
        }
        5 => drop(leaves.swap_remove(at.index(num))),
        6 => leaf.or_more = !leaf.or_more,
        7 => leaf.num_micro_batches = of.index(4) as u32,
        8 => drop(leaf.decisions.pop()),
        _ => leaf.decisions.push(Decision::Join(of.index(3) as u32)),
    }
}

/// A certificate of a plan that is not the best one, and the best time.
fn certificate(case: &Case) -> Option<(Certificate, f64)> {
    let best = PlannerKind::Exhaustive
        .planner()
        .plan(case.problem())
        .ok()?;
    let optimum = best.report.predicted_step.get();
    let kinds = [PlannerKind::Static(None), PlannerKind::BatchAdaptive];
    let plans = kinds.map(|kind| kind.planner().plan_certified(case.problem()).ok());
    let worse =
        |planned: &lengthwise_plan::Planned| planned.report.predicted_step.get() > optimum * 1.001;
    let planned = plans.into_iter().flatten().find(worse)?;
    Some((planned.certificate()?, optimum))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_tree_that_was_changed_proves_no_more_than_the_optimum(
        case in cases_with_rules(TINY),
        changes in changes(),
    ) {
        if let Some((mut certificate, optimum)) = certificate(&case) {
            if let Proof::Tree { limit_s, leaves, .. } = &mut certificate.proof {
                changes.iter().for_each(|one| change(leaves, limit_s, one));
            }
            certificate.bound_s = optimum * (1.0 + 1e-6);
            prop_assert!(verify(&certificate).is_err());
        }
    }

    #[test]
    fn no_parts_of_one_micro_batch_prove_more_than_the_optimum(
        case in cases_with_rules(TINY),
        parts in vec(0.0f64..=1.0, 60),
        scale in prop_oneof![Just(1.0), 1.0f64..1.2, 1.0f64..1e6],
    ) {
        if let Some((mut certificate, optimum)) = certificate(&case) {
            let num_shapes = certificate.problem.shapes.len();
            let overhead = certificate.problem.micro_batch_overhead_s;
            if let Proof::Tree { leaves, one_micro_batch, .. } = &mut certificate.proof {
                // Beside it, only plans of more micro-batches are proven about, and by no less than they were.
                leaves.retain(|leaf| leaf.num_micro_batches != 1 || leaf.or_more);
                *one_micro_batch = Some(OneMicroBatch {
                    makespan_s: (optimum * (1.0 + 1e-6) - overhead) * scale,
                    time_parts: parts.into_iter().cycle().take(num_shapes).collect(),
                });
            }
            certificate.bound_s = optimum * (1.0 + 1e-6);
            prop_assert!(verify(&certificate).is_err());
        }
    }

    #[test]
    fn no_prices_of_lots_prove_more_than_the_optimum(
        case in cases_with_rules(TINY),
        prices in vec(0.0f64..2.0, 5),
        scale in prop_oneof![0.5f64..2.0, 1e-6f64..1.0, 1e3f64..1e90],
        merged in any::<bool>(),
    ) {
        if let Some((mut certificate, optimum)) = certificate(&case) {
            let lens = certificate.problem.lengths_tokens.clone();
            let step = if merged { 2 } else { 1 };
            let buckets = lens.iter().step_by(step).zip(&prices);
            certificate.proof = Proof::Patterns {
                capacity: Capacity::Memory,
                buckets: buckets.map(|(&from_tokens, price)| Bucket { from_tokens, price_s: price * scale * optimum }).collect(),
            };
            certificate.bound_s = optimum * (1.0 + 1e-6);
            prop_assert!(verify(&certificate).is_err());
        }
    }
}

#[test]
fn there_are_plans_to_forge_bounds_of() {
    let all = common::sample(cases_with_rules(TINY), 3, 500);
    let num = all.filter(|case| certificate(case).is_some()).count();
    assert!(num > 50, "{num}");
}
