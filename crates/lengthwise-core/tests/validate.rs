//! Every rule that `Plan::validate` keeps, by the message of its violation.

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Group, MemoryModel, MicroBatch, Plan,
    Rank, SequenceIndex, Speed, Strategy, StrategySpace, Tokens,
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
    let result = plan.validate(&batch, &cluster, &space, &KilobytePerToken);
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
    group 0 of micro-batch 0 has 1 ranks; its strategy has degree 2 and needs as many
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
