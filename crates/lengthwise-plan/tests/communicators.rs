//! Groups recur from batch to batch, so that few communicators are ever needed.

use std::collections::BTreeSet;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Group, PlanRules, Speed,
    StrategyKind, StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use lengthwise_plan::{PlannerKind, PlannerOptions, Problem};

#[test]
fn plans_of_many_batches_share_the_communicators_they_were_told_of() {
    let device = Device::new(Bytes::from_mib(2), Speed::NOMINAL);
    let cluster = Cluster::uniform(4, 8, device).unwrap();
    let cost = FittedModel::new(FittedCosts {
        micro_batch_overhead_s: 0.01,
        ..FittedCosts::of_kind(
            StrategyKind::ulysses(Activations::Recompute),
            KindCosts {
                quadratic_s_per_token2: 2e-9,
                linear_s_per_token: 5e-6,
                exchange_s_per_token: vec![(Degree::new(2).unwrap(), 1e-6)],
                many_nodes_exchange_s_per_token: vec![(Degree::new(2).unwrap(), 4e-6)],
                memory_bytes_per_token: vec![(Degree::ONE, 64.0)],
                ..KindCosts::default()
            },
        )
    })
    .unwrap();
    let space = StrategySpace::ulysses_up_to(32, Activations::Recompute).unwrap();
    let mut used = BTreeSet::new();
    let max_communicators = 31;
    let options = PlannerOptions::default().with_max_communicators(max_communicators);
    let planner = PlannerKind::Adaptive.planner_with(options);
    let mut num_mixed = 0;
    for seed in 1..40u64 {
        let len = |index: u64| 200 + (seed * 7919 + index * index * 6151) % (400 * seed + 40_000);
        let batch = GlobalBatch::from_lens((0..20 + seed).map(len)).unwrap();
        let problem = Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules: PlanRules::default(),
        };
        let planned = planner.plan(problem).unwrap();
        assert_eq!(
            planned
                .plan
                .validate(&batch, &cluster, &space, &cost, &PlanRules::default()),
            Ok(())
        );
        // The bound holds among plans of these degrees only.
        let bounded = planned.report.bounded_degrees.as_deref();
        let bounded = bounded.expect("there are not enough communicators for all 32 degrees");
        for micro_batch in planned.plan.micro_batches() {
            let of_these = |group: &Group| bounded.contains(&group.degree());
            assert!(micro_batch.groups.iter().all(of_these));
            let mut degrees: Vec<u32> = Vec::new();
            for group in &micro_batch.groups {
                degrees.push(group.degree().get());
                if group.degree() > Degree::ONE {
                    used.insert(group.ranks.clone());
                }
            }
            degrees.dedup();
            num_mixed += usize::from(degrees.len() > 1);
        }
    }
    assert!(num_mixed > 0, "no micro-batch mixes degrees");
    assert!(
        used.len() <= max_communicators as usize,
        "{} groups were used",
        used.len()
    );
}
