//! How far analytic costs are from those that follow from times that others measured on H100s.

use std::fmt::Write;
use std::path::Path;

use lengthwise_core::{Activations, Degree, Strategy, StrategyKind, Tokens};
use lengthwise_cost::{
    AnalyticModel, CostModel, GroupShape, Hardware, KindCosts, ModelKind, Profile, Span,
};

/// Milliseconds of attention, forward and backward, of a document of so many tokens in one layer with 64 query heads of
/// 128 on an H100: hao-ai-lab/DistCA, commit 2afd219.
const MEASURED_MS: [(u64, f64); 12] = [
    (16, 0.010_983),
    (32, 0.011_387),
    (64, 0.012_258),
    (128, 0.013_232),
    (256, 0.024_764),
    (512, 0.072_667),
    (1024, 0.212_038),
    (2048, 0.745_312),
    (4096, 2.816_744),
    (8192, 10.108_568),
    (16_384, 37.450_176),
    (32_768, 150.115_906),
];

/// A profile of `examples/profiles` and the analytic model of the same.
fn fitted_and_analytic(kind: ModelKind, cluster: &str) -> (Profile, AnalyticModel) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let profile = Profile::read(&examples.join(format!("profiles/h100-{kind}.toml"))).unwrap();
    let hardware = Hardware::named(cluster).unwrap();
    let analytic = AnalyticModel::new(kind.architecture(profile.context_tokens), hardware);
    (profile, analytic)
}

fn cases() -> [(Profile, AnalyticModel); 2] {
    [
        fitted_and_analytic(ModelKind::Llama31With8B, "h100-1x8"),
        fitted_and_analytic(ModelKind::Llama31With70B, "h100-8x8"),
    ]
}

fn alone() -> GroupShape {
    GroupShape {
        strategy: Strategy::ulysses(Degree::ONE, Activations::Recompute),
        span: Span::OneNode,
    }
}

#[test]
fn attention_is_within_16_percent_of_each_measured_length() {
    for (profile, analytic) in cases() {
        let model = profile.model(&profile.cluster(None).unwrap()).unwrap();
        let architecture = analytic.architecture();
        let of_one_layer = f64::from(architecture.num_layers()) * 9.0 / 7.0;
        let of_heads = f64::from(architecture.num_heads()) / 64.0;
        // All but attention is extrapolated, and the same in both.
        let dense = analytic.linear_s_per_token();
        for (seq_len, measured_ms) in MEASURED_MS {
            let time = model.sequence_time(alone(), Tokens(seq_len)).get();
            let attention = time - dense * seq_len as f64;
            let of_measured = attention / (of_one_layer * of_heads * measured_ms * 1e-3);
            assert!(
                (of_measured - 1.0).abs() < 0.165,
                "{seq_len}: {of_measured}"
            );
        }
    }
}

#[test]
fn deviations_are_those_that_the_documentation_states() {
    let mut table = String::new();
    for (profile, analytic) in cases() {
        let model = profile.model(&profile.cluster(None).unwrap()).unwrap();
        let kind = StrategyKind::ulysses(Activations::Recompute);
        let (ours, theirs) = (analytic.costs(), model.costs());
        let of = |figure: fn(&KindCosts) -> f64| {
            100.0 * (figure(&ours.kinds[&kind]) / figure(&theirs.kinds[&kind]) - 1.0)
        };
        let overhead = ours.micro_batch_overhead_s / theirs.micro_batch_overhead_s - 1.0;
        let _ = writeln!(
            table,
            "{}: per token^2 {:+.0} %, per token {:+.1} %, overhead {:+.0} %",
            profile.name,
            of(|costs| costs.quadratic_s_per_token2),
            of(|costs| costs.linear_s_per_token),
            100.0 * overhead,
        );
        let analytic = analytic.model().unwrap();
        for seq_len in [64, 1024, 8192, 131_072] {
            let time = |model: &dyn CostModel| model.sequence_time(alone(), Tokens(seq_len)).get();
            let excess = 100.0 * (time(&analytic) / time(&model) - 1.0);
            let _ = writeln!(table, "  {seq_len} tokens on one device: {excess:+.1} %");
        }
    }
    insta::assert_snapshot!(table);
}
