//! Costs for a number of ranks, each of which stands for the devices that share a model.

use lengthwise_core::Tokens;
use lengthwise_cost::ModelShare;
use lengthwise_inputs::{CostChanges, CostSource, Costs, StrategyFamilies};

/// The costs, or what is told of why there are none.
fn costs(share: (u32, u32), changes: CostChanges) -> Result<Costs, String> {
    let source = CostSource::described("h100-8x8", "llama-3.1-8b").unwrap();
    let share = ModelShare::new(share.0, share.1).unwrap();
    let costs = source.with_share(share).unwrap().costs(changes, None);
    costs.map_err(|error| error.to_string())
}

fn ranks(num_ranks: u32) -> CostChanges {
    CostChanges {
        num_ranks: Some(num_ranks),
        ..CostChanges::default()
    }
}

#[test]
fn so_many_ranks_are_planned_for_as_are_asked_for() {
    for (tensor, pipeline, num_ranks) in [(1, 1, 24), (4, 1, 6), (2, 4, 8), (8, 2, 32), (1, 8, 3)] {
        let costs = costs((tensor, pipeline), ranks(num_ranks)).unwrap();
        assert_eq!(costs.cluster.num_devices(), num_ranks);
        assert_eq!(costs.num_devices(), num_ranks * tensor * pipeline);
        let on_a_node = (8 / tensor).min(num_ranks);
        assert_eq!(costs.cluster.node_ranks(0), Some(0..on_a_node));
    }
    let both = CostChanges {
        num_devices: Some(16),
        ..ranks(4)
    };
    assert_eq!(costs((4, 1), both).unwrap().num_devices(), 16);
}

#[test]
fn numbers_that_contradict_each_other_or_are_too_large_are_refused() {
    let told = |share, changes| costs(share, changes).unwrap_err();
    let both = CostChanges {
        num_devices: Some(24),
        ..ranks(4)
    };
    assert_eq!(
        told((4, 1), both),
        "24 devices and 4 ranks of 4 devices were asked for; one of the two is the rule"
    );
    assert!(told((4, 1), ranks(0)).starts_with("h100-8x8: "));
    let too_many = told((8, 8), ranks(u32::MAX));
    assert!(too_many.starts_with("h100-8x8: "), "{too_many}");
}

#[test]
fn rings_have_degrees_beyond_heads() {
    let changes = |strategies: &str| CostChanges {
        strategies: Some(strategies.parse::<StrategyFamilies>().unwrap()),
        context: Some(Tokens(1_000_000)),
        ..CostChanges::default()
    };
    let largest = |strategies| {
        let costs = costs((1, 1), changes(strategies)).unwrap();
        costs.space.degrees().last().unwrap().get()
    };
    assert_eq!(largest("ulysses"), 32);
    assert_eq!(largest("ring"), 64);
    assert_eq!(largest("ulysses,ring"), 64);
}
