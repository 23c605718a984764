//! By how much adding up the costs of single sequences overestimates rings of packed ones, on recorded batches.

mod common;

use std::fmt::Write;

use lengthwise_core::{Activations, GlobalBatch, PlanRules, StrategyFamily};
use lengthwise_cost::{AnalyticModel, CostModel, GroupShape, Hardware, ModelKind, predict_group};
use lengthwise_plan::{PlannerKind, Problem};

#[test]
fn sums_exceed_packed_rings_by_what_the_documentation_states() {
    let hardware = Hardware::named("h100-8x8").unwrap();
    let architecture = ModelKind::Llama31With8B.architecture(384_000);
    let analytic = AnalyticModel::new(architecture, hardware);
    let (cost, cluster) = (analytic.model().unwrap(), analytic.cluster().unwrap());
    let activations = [Activations::Recompute];
    let space = analytic.space_of(&[StrategyFamily::Ring], &activations, None);
    let space = space.unwrap();
    let mut told = String::new();
    for name in [
        "cc_synth_384k_7b_0",
        "github_synth_384k_7b_0",
        "wikipedia_384k_13b_0",
        "wikipedia_384k_7b_0",
        "wikipedia_384k_7b_1",
        "wikipedia_384k_7b_2",
    ] {
        let batch = GlobalBatch::from_lens(common::recorded_lens(name)).unwrap();
        for planner in ["adaptive", "static:8", "static:64"] {
            let kind: PlannerKind = planner.parse().unwrap();
            let problem = Problem {
                batch: &batch,
                cluster: &cluster,
                cost: &cost,
                space: &space,
                rules: PlanRules::default(),
            };
            let plan = kind.planner().plan(problem).unwrap().plan;
            let (mut summed, mut packed) = (0.0, 0.0);
            for micro_batch in plan.micro_batches() {
                let overhead = cost.micro_batch_overhead().get();
                let times = micro_batch.groups.iter().map(|group| {
                    let seq_lens = group.sequences.iter().filter_map(|&s| batch.seq_len(s));
                    let packed = cost.packed_time(GroupShape::of(group, &cluster), seq_lens);
                    (
                        predict_group(group, &batch, &cluster, &cost).get(),
                        packed.get(),
                    )
                });
                let (of_sums, of_packed) = times.fold((0.0f64, 0.0f64), |longest, times| {
                    (longest.0.max(times.0), longest.1.max(times.1))
                });
                summed += overhead + of_sums;
                packed += overhead + of_packed;
            }
            // Sums differ from each other in their last digits.
            let more = 100.0 * (summed / packed - 1.0).max(0.0);
            let _ = writeln!(
                told,
                "{name} {planner}: {summed:.3} s, packed {packed:.3} s, {more:.2} %"
            );
        }
    }
    insta::assert_snapshot!(told);
}
