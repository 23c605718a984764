//! Any profile, cluster and lengths: a plan that passes validation, or an error with a hint; never a panic.
//!
//! `cargo +nightly fuzz run plan`

#![no_main]

use arbitrary::Arbitrary;
use lengthwise_core::{Bytes, Cluster, Degree, Device, GlobalBatch, Speed, StrategySpace};
use lengthwise_cost::{FittedCosts, FittedModel};
use lengthwise_plan::{PlannerKind, Problem};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    lens: Vec<u32>,
    nodes: Vec<Vec<(u32, u8)>>,
    degrees: Vec<u8>,
    costs: [u16; 8],
    num_heads: Option<u8>,
}

fuzz_target!(|input: Input| {
    let lens = input
        .lens
        .iter()
        .take(200)
        .map(|&len| u64::from(len % 1_000_000));
    let Ok(batch) = GlobalBatch::from_lens(lens) else {
        return;
    };
    let device = |&(bytes, speed): &(u32, u8)| {
        Speed::new((f64::from(speed) + 1.0) / 64.0)
            .ok()
            .map(|speed| Device::new(Bytes(bytes.into()), speed))
    };
    let nodes = input.nodes.iter().take(8);
    let nodes = nodes
        .map(|node| node.iter().take(12).filter_map(device).collect())
        .collect();
    let Ok(cluster) = Cluster::from_nodes(nodes) else {
        return;
    };
    let degrees: Vec<Degree> = input
        .degrees
        .iter()
        .filter_map(|&degree| Degree::new(degree.into()).ok())
        .collect();
    let Ok(space) = StrategySpace::ulysses(&degrees, true) else {
        return;
    };
    let cost = input.costs.map(f64::from);
    let table = |two: f64, eight: f64| {
        [(2, two), (8, eight)]
            .into_iter()
            .filter_map(|(d, v)| Some((Degree::new(d).ok()?, v * 1e-9)))
            .collect()
    };
    let costs = FittedCosts {
        quadratic_s_per_token2: cost[0] * 1e-12,
        linear_s_per_token: cost[1] * 1e-8,
        num_heads: input.num_heads.map(u32::from),
        exchange_s_per_token: table(cost[2], cost[3]),
        many_nodes_exchange_s_per_token: table(cost[4], cost[5]),
        memory_bytes_per_token: vec![(Degree::ONE, cost[6])],
        fixed_memory_bytes: cost[7],
        micro_batch_overhead_s: cost[7] * 1e-5,
    };
    let Ok(cost) = FittedModel::new(costs) else {
        return;
    };
    let problem = Problem {
        batch: &batch,
        cluster: &cluster,
        cost: &cost,
        space: &space,
    };
    for kind in [
        PlannerKind::Adaptive,
        PlannerKind::Static(None),
        PlannerKind::BatchAdaptive,
    ] {
        match kind.planner().plan(problem) {
            Ok(planned) => {
                planned
                    .plan
                    .validate(&batch, &cluster, &space, &cost)
                    .expect("plans are valid");
                let (time, bound) = (
                    planned.report.predicted_step.get(),
                    planned.report.lower_bound.get(),
                );
                assert!(
                    bound <= time * (1.0 + 1e-9),
                    "bound {bound} is above the plan's {time}"
                );
            }
            Err(error) => assert!(error.hint().is_some(), "{error} has no hint"),
        }
    }
});
