//! The longest context is one that can be planned, and no longer one can be.

use lengthwise_core::{Bytes, Tokens};
use lengthwise_cost::Logits;
use lengthwise_inputs::{
    ActivationChoices, CostChanges, CostSource, Lengths, OwnedProblem, StrategyFamilies,
};
use lengthwise_plan::PlannerKind;
use proptest::prelude::*;

/// Whether a step with this sequence alone has a plan.
fn is_plannable(source: &CostSource, changes: CostChanges, tokens: u64) -> bool {
    let context = Some(Tokens(tokens));
    let costs = source.costs(CostChanges { context, ..changes }, None);
    let lengths = Lengths::drawn(vec![Tokens(tokens)], "lengths");
    let problem = OwnedProblem::new(costs.unwrap(), lengths).unwrap();
    let planned = problem.plan(PlannerKind::default().planner().as_ref());
    planned.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_longest_context_has_a_plan_and_one_token_more_has_none(
        // The GPTs have a table of positions, which takes memory too.
        model in prop::sample::select(vec!["llama-3-8b", "qwen3-8b", "gpt-7b", "gpt-13b"]),
        num_devices in 1u32..=32,
        strategies in prop::sample::select(vec!["ulysses", "ring", "all"]),
        activations in prop::sample::select(vec!["keep", "recompute", "host", "all"]),
        logits in prop::sample::select(Logits::ALL.to_vec()),
    ) {
        let source = CostSource::described("h100-4x8", model).unwrap();
        let changes = CostChanges {
            num_devices: Some(num_devices),
            strategies: Some(strategies.parse::<StrategyFamilies>().unwrap()),
            activations: Some(activations.parse::<ActivationChoices>().unwrap()),
            logits: Some(logits),
            ..CostChanges::default()
        };
        let longest = source.longest_context(changes).unwrap();
        if let Some(longest) = longest {
            prop_assert!(is_plannable(&source, changes, longest.0), "{longest}");
        }
        let longest = longest.map_or(0, |tokens| tokens.0);
        prop_assert!(!is_plannable(&source, changes, longest + 1), "{longest}");
    }
}

#[test]
fn more_strategies_and_fewer_logits_leave_room_for_longer_contexts() {
    let source = CostSource::described("h100-8x8", "llama-3-8b").unwrap();
    let longest = |strategies: &str, activations: &str, logits| {
        let changes = CostChanges {
            strategies: Some(strategies.parse().unwrap()),
            activations: Some(activations.parse().unwrap()),
            logits: Some(logits),
            ..CostChanges::default()
        };
        source.longest_context(changes).unwrap().unwrap()
    };
    let today = longest("ulysses", "recompute", Logits::Whole);
    let chunked = longest("ulysses", "recompute", Logits::Chunked);
    let all = longest("all", "all", Logits::Chunked);
    assert!(chunked.0 > 4 * today.0, "{chunked} {today}");
    assert!(all.0 > 4 * chunked.0, "{all} {chunked}");
}

#[test]
fn memory_that_a_profile_has_measured_is_not_that_of_other_logits() {
    let profile = "../../examples/profiles/a100-gpt-7b-384k.toml";
    let source = CostSource::profile(profile.as_ref()).unwrap();
    let changes = CostChanges {
        logits: Some(Logits::Chunked),
        ..CostChanges::default()
    };
    let error = source.costs(changes, None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("logits chunked can't be chosen"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--model"));
    // As much as a device has: nothing is left for a sequence.
    let changes = CostChanges {
        memory: Some(Bytes(1 << 30)),
        ..CostChanges::default()
    };
    assert_eq!(source.longest_context(changes).unwrap(), None);
}
