//! Every strategy of a described cluster, simulated beside what is predicted.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

use lengthwise_core::{
    GlobalBatch, Group, MicroBatch, Plan, Rank, Seconds, SequenceIndex, Strategy, Tokens,
};
use lengthwise_cost::predict_step;
use lengthwise_inputs::{ActivationChoices, CostChanges, CostSource, Costs, StrategyFamilies};
use lengthwise_sim::{Overlap, simulate};

/// Costs of a model with few key/value heads on two nodes of eight, of all that groups may be like.
fn costs() -> Costs {
    let source = CostSource::described("h100-2x8", "llama-3.1-8b").unwrap();
    let changes = CostChanges {
        context: Some(Tokens(262_144)),
        strategies: Some(StrategyFamilies::default()),
        activations: Some(ActivationChoices::default()),
        ..CostChanges::default()
    };
    source.costs(changes, None).unwrap()
}

/// The simulated and the predicted time of one sequence of 4096 tokens for each rank of a group.
fn times(costs: &Costs, strategy: Strategy) -> (f64, f64) {
    let degree = strategy.degree().get();
    let batch = GlobalBatch::from_lens([u64::from(degree) * 4096]).unwrap();
    let group = Group {
        strategy,
        ranks: (0..degree).map(Rank).collect(),
        sequences: vec![SequenceIndex(0)],
    };
    let plan = Plan::new(vec![MicroBatch {
        groups: vec![group],
    }]);
    let of_step = costs.step_costs(costs.usual_num_layers(), Seconds::ZERO);
    let step = simulate(
        &plan,
        &batch,
        &costs.cluster,
        &of_step.unwrap(),
        Overlap::default(),
        &mut (),
    );
    let predicted = predict_step(&plan, &batch, &costs.cluster, &costs.model);
    (step.unwrap().step.get(), predicted.get())
}

#[test]
fn by_costs_alone_every_strategy_takes_its_predicted_time() {
    let mut costs = costs();
    costs.transport = None;
    for &strategy in costs.space.strategies() {
        let (simulated, predicted) = times(&costs, strategy);
        let difference = (simulated / predicted - 1.0).abs();
        assert!(difference < 1e-9, "{strategy}: {simulated} {predicted}");
    }
}

/// Predictions leave gathers partly exposed, which computing may hide all of; and they take groups to be divided evenly among
/// nodes.
#[test]
fn over_links_every_strategy_takes_about_its_predicted_time() {
    let costs = costs();
    let is_even = |degree: u32| degree <= 8 || degree == 16;
    for &strategy in costs.space.strategies() {
        let (simulated, predicted) = times(&costs, strategy);
        let ratio = simulated / predicted;
        let most = if is_even(strategy.degree().get()) {
            1.03
        } else {
            1.1
        };
        assert!((0.93..most).contains(&ratio), "{strategy}: {ratio}");
    }
}
