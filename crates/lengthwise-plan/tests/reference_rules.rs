//! The cost of rules on the recorded batches, and how tight their bounds are.

use std::num::NonZero;
use std::path::Path;

use lengthwise_core::{
    Activations, Degree, GlobalBatch, PlanRules, StrategySpace, TokenCap, Tokens,
};
use lengthwise_cost::Profile;
use lengthwise_plan::{Planned, PlannerKind, Problem};

mod common;

/// Batch, model, tokens a rank that its memory allows, and the step of Megatron-Core's own rule in seconds.
const BATCHES: [(&str, &str, u64, f64); 6] = [
    ("wikipedia_384k_7b_0", "gpt-7b", 6_407, 3.234),
    ("wikipedia_384k_7b_1", "gpt-7b", 6_407, 7.674),
    ("wikipedia_384k_7b_2", "gpt-7b", 6_407, 3.528),
    ("wikipedia_384k_13b_0", "gpt-13b", 6_427, 5.596),
    ("github_synth_384k_7b_0", "gpt-7b", 6_407, 14.995),
    ("cc_synth_384k_7b_0", "gpt-7b", 6_407, 7.910),
];

fn plan(name: &str, model: &str, rules: PlanRules) -> Planned {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let degrees = [1, 2, 4, 8, 16, 32, 64].map(|degree| Degree::new(degree).unwrap());
    let space = StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap();
    let profile =
        Profile::read(&examples.join(format!("profiles/a100-{model}-384k.toml"))).unwrap();
    let cluster = profile.cluster(None).unwrap();
    let cost = profile.model(&cluster).unwrap();
    let batch = GlobalBatch::from_lens(common::recorded_lens(name)).unwrap();
    let problem = Problem {
        batch: &batch,
        cluster: &cluster,
        cost: &cost,
        space: &space,
        rules,
    };
    let planned = PlannerKind::Adaptive.planner().plan(problem).unwrap();
    let valid = planned
        .plan
        .validate(&batch, &cluster, &space, &cost, &rules);
    assert_eq!(valid, Ok(()));
    planned
}

/// All rules, with this multiple of micro-batches and so many sequences a group.
fn all_rules(tokens_per_rank: u64, multiple: u32, most_sequences: Option<u32>) -> PlanRules {
    PlanRules {
        no_idle_ranks: true,
        aligned_powers_of_two: true,
        token_cap: Some(TokenCap {
            tokens_per_rank: Tokens(tokens_per_rank),
            replaces_memory: false,
        }),
        micro_batches_multiple_of: NonZero::new(multiple).unwrap(),
        max_sequences_per_group: most_sequences.and_then(NonZero::new),
        ..PlanRules::default()
    }
}

/// The geometric mean of steps as parts of Megatron's, and the mean gap.
fn means(multiple: u32, most_sequences: Option<u32>) -> (f64, f64) {
    let (mut log_ratios, mut gaps) = (0.0, 0.0);
    for (name, model, tokens_per_rank, megatron_s) in BATCHES {
        let rules = all_rules(tokens_per_rank, multiple, most_sequences);
        let report = plan(name, model, rules).report;
        log_ratios += (report.predicted_step.get() / megatron_s).ln();
        gaps += report.gap().unwrap();
    }
    let num = BATCHES.len() as f64;
    ((log_ratios / num).exp(), gaps / num)
}

#[test]
fn plans_with_all_rules_beat_megatrons_rule_with_a_small_gap() {
    for (multiple, most_sequences) in [(1, None), (1, Some(128)), (2, Some(128)), (1, Some(64))] {
        let (ratio, gap) = means(multiple, most_sequences);
        assert!(
            ratio <= 0.90,
            "{multiple}, {most_sequences:?}: the geometric mean is {ratio}"
        );
        assert!(
            gap <= 0.03,
            "{multiple}, {most_sequences:?}: the mean gap is {gap}"
        );
    }
}
