//! Every rule that `Plan::validate` keeps, by the message of its violation.

use std::num::NonZero;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Group, MemoryModel, MicroBatch, Plan,
    PlanRules, Rank, SequenceIndex, Speed, Strategy, StrategySpace, TokenCap, Tokens,
};
use proptest::prelude::*;

/// A kilobyte for each token that a device holds.
struct KilobytePerToken;

impl MemoryModel for KilobytePerToken {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        Bytes(1024 * seq_len.0.div_ceil(strategy.degree().get().into()))
    }

    fn budget(&self, device: &Device) -> Bytes {
        device.memory()
    }
}

fn group(degree: u32, ranks: &[u32], sequences: &[u32]) -> Group {
    Group {
        strategy: Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute),
        ranks: ranks.iter().copied().map(Rank).collect(),
        sequences: sequences.iter().copied().map(SequenceIndex).collect(),
    }
}

fn violation(micro_batches: Vec<Vec<Group>>) -> Option<String> {
    let batch = GlobalBatch::from_lens([100, 20, 30]).unwrap();
    let device = |kib: u64| Device::new(Bytes(kib << 10), Speed::NOMINAL);
    let cluster = Cluster::from_nodes(vec![vec![device(100); 3], vec![device(25)]]).unwrap();
    let space = StrategySpace::ulysses_up_to(3, Activations::Recompute).unwrap();
    let micro_batches = micro_batches
        .into_iter()
        .map(|groups| MicroBatch { groups });
    let plan = Plan::new(micro_batches.collect());
    let result = plan.validate(
        &batch,
        &cluster,
        &space,
        &KilobytePerToken,
        &PlanRules::default(),
    );
    result.err().map(|violation| violation.to_string())
}

#[test]
fn a_plan_that_keeps_all_rules_passes() {
    let two = vec![
        vec![group(2, &[2, 0], &[0]), group(1, &[1], &[2])],
        vec![group(1, &[3], &[1])],
    ];
    assert_eq!(violation(two), None);
}

#[test]
fn every_violation_names_its_place_and_numbers() {
    let other_strategy = Group {
        strategy: Strategy::ulysses(Degree::ONE, Activations::Keep),
        ..group(1, &[0], &[0, 1, 2])
    };
    let messages = [
        vec![],
        vec![vec![]],
        vec![vec![group(1, &[0], &[])]],
        vec![vec![group(2, &[0], &[0, 1, 2])]],
        vec![vec![group(4, &[0, 1, 2, 3], &[0, 1, 2])]],
        vec![vec![other_strategy]],
        vec![vec![group(2, &[3, 4], &[0, 1, 2])]],
        vec![vec![group(2, &[0, 0], &[0, 1, 2])]],
        vec![vec![group(2, &[0, 1], &[0]), group(2, &[1, 2], &[1, 2])]],
        vec![vec![group(1, &[0], &[0]), group(1, &[1], &[3])]],
        vec![vec![group(1, &[0], &[0])], vec![group(1, &[0], &[1, 2, 0])]],
        vec![vec![group(1, &[0], &[0]), group(1, &[1], &[2])]],
        vec![vec![group(1, &[0], &[0, 1, 2])]],
        vec![vec![group(1, &[0], &[0])], vec![group(1, &[3], &[1, 2])]],
    ]
    .map(|plan| violation(plan).unwrap_or_else(|| "valid".to_owned()));
    insta::assert_snapshot!(messages.join("\n"), @r"
    sequence 0 of 100 tokens is in no group; every sequence must be processed once
    micro-batch 0 has no group; every micro-batch needs at least one
    group 0 of micro-batch 0 has no sequence; ranks without work must be left idle
    group 0 of micro-batch 0 has 1 rank; its strategy has degree 2 and needs as many
    group 0 of micro-batch 0 has the strategy 4 recompute, which the strategy space lacks; it has 1 recompute, 2 recompute, 3 recompute
    group 0 of micro-batch 0 has the strategy 1 keep, which the strategy space lacks; it has 1 recompute, 2 recompute, 3 recompute
    group 0 of micro-batch 0 uses rank 4; the cluster has 4 devices, ranks 0 to 3
    rank 0 is in groups 0 and 0 of micro-batch 0; groups must be disjoint
    rank 1 is in groups 0 and 1 of micro-batch 0; groups must be disjoint
    group 1 of micro-batch 0 holds sequence 3; the batch has 3 sequences, 0 to 2
    sequence 0 is assigned again in group 0 of micro-batch 1; once is the rule
    sequence 1 of 20 tokens is in no group; every sequence must be processed once
    group 0 of micro-batch 0 (degree 1) needs 150.00 KiB on each device for 3 sequences; rank 0 has 100.00 KiB for them
    group 0 of micro-batch 1 (degree 1) needs 50.00 KiB on each device for 2 sequences; rank 3 has 25.00 KiB for them
    ");
}

proptest! {
    /// Whatever a plan says, the answer is a verdict, never a panic; and a sequence missing or twice is never missed.
    #[test]
    fn a_plan_passes_only_with_every_sequence_once(
        micro_batches in prop::collection::vec(
            prop::collection::vec((1..5u32, prop::collection::vec(0..6u32, 0..4), prop::collection::vec(0..5u32, 0..4)), 0..4),
            0..4,
        ),
    ) {
        let mut seen = [0; 3];
        let groups = |groups: Vec<(u32, Vec<u32>, Vec<u32>)>| -> Vec<Group> {
            groups.iter().map(|(degree, ranks, sequences)| group(*degree, ranks, sequences)).collect()
        };
        let plan: Vec<Vec<Group>> = micro_batches.into_iter().map(groups).collect();
        for sequence in plan.iter().flatten().flat_map(|group| &group.sequences) {
            if let Some(count) = seen.get_mut(sequence.index()) {
                *count += 1;
            }
        }
        if violation(plan).is_none() {
            prop_assert_eq!(seen, [1; 3]);
        }
    }
}

/// What breaks `rules` in a plan for two nodes of three devices that is right otherwise.
fn broken(rules: PlanRules, micro_batches: Vec<Vec<Group>>) -> Option<String> {
    let batch = GlobalBatch::from_lens([100, 20, 30, 10]).unwrap();
    let device = Device::new(Bytes(100 << 10), Speed::NOMINAL);
    let cluster = Cluster::uniform(2, 3, device).unwrap();
    let space = StrategySpace::ulysses_up_to(4, Activations::Recompute).unwrap();
    let micro_batches = micro_batches
        .into_iter()
        .map(|groups| MicroBatch { groups });
    let plan = Plan::new(micro_batches.collect());
    let result = plan.validate(&batch, &cluster, &space, &KilobytePerToken, &rules);
    result.err().map(|violation| violation.to_string())
}

#[test]
fn every_rule_is_checked_and_named() {
    let none = PlanRules::default();
    let no_idle_ranks = PlanRules {
        no_idle_ranks: true,
        ..none
    };
    let aligned = PlanRules {
        aligned_powers_of_two: true,
        ..none
    };
    let at_least_two = PlanRules {
        min_degree: Degree::new(2).unwrap(),
        ..aligned
    };
    let capped = PlanRules {
        token_cap: Some(TokenCap {
            tokens_per_rank: Tokens(37),
            replaces_memory: false,
        }),
        ..none
    };
    let few = PlanRules {
        max_sequences_per_group: NonZero::new(2),
        ..none
    };
    let even = PlanRules {
        micro_batches_multiple_of: NonZero::new(2).unwrap(),
        ..none
    };
    // Six ranks, all busy: 4 and 2; 150 tokens on 4 ranks are 37.5 a rank.
    let full = || {
        vec![vec![
            group(4, &[0, 1, 2, 3], &[0, 1, 2]),
            group(2, &[4, 5], &[3]),
        ]]
    };
    assert_eq!(broken(none, full()), None);
    assert_eq!(broken(no_idle_ranks, full()), None);
    assert_eq!(broken(at_least_two, full()), None);
    let shifted = || {
        vec![vec![
            group(2, &[0, 1], &[3]),
            group(4, &[2, 3, 4, 5], &[0, 1, 2]),
        ]]
    };
    let three = || vec![vec![group(3, &[0, 1, 2], &[0, 1, 2, 3])]];
    let one = || {
        vec![vec![
            group(1, &[0], &[3]),
            group(4, &[2, 3, 4, 5], &[0, 1, 2]),
        ]]
    };
    let messages = [
        broken(no_idle_ranks, three()),
        broken(aligned, three()),
        broken(aligned, shifted()),
        broken(at_least_two, one()),
        broken(capped, full()),
        broken(few, full()),
        broken(even, full()),
    ];
    let messages: Vec<String> = messages.into_iter().map(Option::unwrap).collect();
    insta::assert_snapshot!(messages.join("\n"), @r"
    rank 3 is in no group of micro-batch 0; the rules allow no idle rank
    group 0 of micro-batch 0 has degree 3; the rules allow only powers of two
    group 1 of micro-batch 0 (degree 4) has ranks 2, 3, 4, 5; the rules allow only runs of ranks that begin at a multiple of their degree
    group 0 of micro-batch 0 has degree 1; the rules allow only powers of two from 2 on
    group 0 of micro-batch 0 (degree 4) has 150 tokens; at 37 a rank, the rules allow 148
    group 0 of micro-batch 0 has 3 sequences; the rules allow 2
    the plan has 1 micro-batch; the rules ask for a multiple of 2
    ");
}

/// Two kilobytes of host memory for each token that a device holds, of strategies that move activations there.
struct MovesToTheHost;

impl MemoryModel for MovesToTheHost {
    fn sequence_memory(&self, _strategy: Strategy, _seq_len: Tokens) -> Bytes {
        Bytes(0)
    }

    fn budget(&self, device: &Device) -> Bytes {
        device.memory()
    }

    fn host_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        let moves = strategy.activations() == Activations::Host;
        Bytes(u64::from(moves) * 2048 * seq_len.0.div_ceil(strategy.degree().get().into()))
    }

    fn host_budget(&self, device: &Device) -> Bytes {
        device.host_memory()
    }
}

#[test]
fn hosts_have_a_budget_of_their_own() {
    let batch = GlobalBatch::from_lens([100, 60]).unwrap();
    let device = Device::new(Bytes(1), Speed::NOMINAL);
    let small = device.with_host_memory(Bytes(159 << 10));
    let cluster = Cluster::from_nodes(vec![vec![device, small]]).unwrap();
    let space = [Activations::Recompute, Activations::Host]
        .map(|activations| Strategy::ulysses(Degree::new(2).unwrap(), activations));
    let space = StrategySpace::new(space).unwrap();
    let [recompute, host] = [Activations::Recompute, Activations::Host].map(|activations| {
        let group = Group {
            strategy: Strategy::ulysses(Degree::new(2).unwrap(), activations),
            ..group(2, &[0, 1], &[0, 1])
        };
        let plan = Plan::new(vec![MicroBatch {
            groups: vec![group],
        }]);
        let rules = PlanRules::default();
        plan.validate(&batch, &cluster, &space, &MovesToTheHost, &rules)
    });
    assert_eq!(recompute, Ok(()));
    assert_eq!(
        host.unwrap_err().to_string(),
        "group 0 of micro-batch 0 (2 host) needs 160.00 KiB of host memory for each device for 2 sequences; rank 1 has \
         159.00 KiB of its host"
    );
}

#[test]
fn a_token_cap_takes_the_place_of_memory_where_it_is_told_to() {
    // 50 kilobytes a device for 160 tokens on two devices.
    let batch = GlobalBatch::from_lens([100, 60]).unwrap();
    let device = Device::new(Bytes(50 << 10), Speed::NOMINAL);
    let cluster = Cluster::uniform(1, 2, device).unwrap();
    let space = StrategySpace::ulysses_up_to(2, Activations::Recompute).unwrap();
    let plan = Plan::new(vec![MicroBatch {
        groups: vec![group(2, &[0, 1], &[0, 1])],
    }]);
    for (replaces_memory, is_valid) in [(false, false), (true, true)] {
        let rules = PlanRules {
            token_cap: Some(TokenCap {
                tokens_per_rank: Tokens(80),
                replaces_memory,
            }),
            ..PlanRules::default()
        };
        let result = plan.validate(&batch, &cluster, &space, &KilobytePerToken, &rules);
        assert_eq!(result.is_ok(), is_valid);
    }
}
