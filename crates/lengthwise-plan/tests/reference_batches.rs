//! Figures of the adaptive planner on the recorded batches, beside the figures of the authors' FlexSP solver.

use std::num::NonZero;
use std::path::Path;

use lengthwise_core::{Activations, Degree, GlobalBatch, PlanRules, StrategySpace};
use lengthwise_cost::Profile;
use lengthwise_plan::{PlannerKind, PlannerOptions, Problem};

/// Batch, model and the published solver's step in milliseconds.
const BATCHES: [(&str, &str, f64); 6] = [
    ("wikipedia_384k_7b_0", "gpt-7b", 3087.957),
    ("wikipedia_384k_7b_1", "gpt-7b", 5380.149),
    ("wikipedia_384k_7b_2", "gpt-7b", 3196.852),
    ("wikipedia_384k_13b_0", "gpt-13b", 5334.426),
    ("github_synth_384k_7b_0", "gpt-7b", 14662.696),
    ("cc_synth_384k_7b_0", "gpt-7b", 6405.982),
];

/// The numbers of a recorded batch, which is JSON on one line.
fn lens(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap();
    let from = text.find("\"seq_lens_tokens\": [").unwrap() + 20;
    let list = &text[from..from + text[from..].find(']').unwrap()];
    list.split(',')
        .map(|len| len.trim().parse().unwrap())
        .collect()
}

#[test]
fn plans_beat_the_published_solver_with_a_small_gap() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let degrees = [1, 2, 4, 8, 16, 32, 64].map(|degree| Degree::new(degree).unwrap());
    let space = StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap();
    let (mut log_ratios, mut gaps) = (0.0, 0.0);
    for (name, model, published_ms) in BATCHES {
        let profile =
            Profile::read(&examples.join(format!("profiles/a100-{model}-384k.toml"))).unwrap();
        let cluster = profile.cluster(None).unwrap();
        let cost = profile.model(&cluster).unwrap();
        let batch =
            GlobalBatch::from_lens(lens(&examples.join(format!("batches/{name}.json")))).unwrap();
        let problem = Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules: PlanRules::default(),
        };
        let planned = PlannerKind::Adaptive.planner().plan(problem).unwrap();
        assert_eq!(
            planned
                .plan
                .validate(&batch, &cluster, &space, &cost, &PlanRules::default()),
            Ok(())
        );
        let on_two = PlannerOptions::default().with_num_threads(NonZero::new(2).unwrap());
        let again = PlannerKind::Adaptive.planner_with(on_two);
        let again = again.plan(problem).unwrap();
        assert_eq!(
            again.plan, planned.plan,
            "{name}: the same input gave another plan on two threads"
        );
        let ratio = planned.report.predicted_step.get() * 1e3 / published_ms;
        assert!(ratio <= 1.0, "{name}: {ratio}");
        log_ratios += ratio.ln();
        gaps += planned.report.gap().unwrap();
    }
    let mean_ratio = (log_ratios / BATCHES.len() as f64).exp();
    let mean_gap = gaps / BATCHES.len() as f64;
    assert!(mean_ratio <= 0.95, "the geometric mean is {mean_ratio}");
    assert!(mean_gap <= 0.03, "the mean gap is {mean_gap}");
}
