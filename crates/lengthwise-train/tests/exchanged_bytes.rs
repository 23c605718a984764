//! Bytes that each rank sends in exchanges, exactly: the table that other executors of the same plans are held to.

mod common;

use common::{batch, on_ranks, tiny_model};
use lengthwise_comm::Communicator;
use lengthwise_core::{
    Activations, Bytes, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy,
};
use lengthwise_train::Executor;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<u64> {
    let items = value.as_array().unwrap().iter();
    items.map(|item| item.as_u64().unwrap()).collect()
}

/// Micro-batches of groups of (strategy, sequences): a degree without a ring, or the ranks of a place and the places.
fn groups(value: &Value) -> Vec<Vec<(Strategy, Vec<u32>)>> {
    let degree = |value: &Value| Degree::new(value.as_u64().unwrap() as u32).unwrap();
    let strategy = |value: &Value| match value.as_array() {
        Some(parts) => Strategy::new(degree(&parts[0]), degree(&parts[1]), Activations::Keep),
        None => Ok(Strategy::ulysses(degree(value), Activations::Keep)),
    };
    let group = |value: &Value| {
        let sequences = numbers(&value[1]).into_iter().map(|index| index as u32);
        (strategy(&value[0]).unwrap(), sequences.collect())
    };
    let micro_batches = value.as_array().unwrap().iter();
    micro_batches
        .map(|groups| groups.as_array().unwrap().iter().map(group).collect())
        .collect()
}

/// A plan of these micro-batches; groups have the ranks in order.
fn plan(micro_batches: &[Vec<(Strategy, Vec<u32>)>]) -> Plan {
    let micro_batches = micro_batches.iter().map(|groups| {
        let mut next = 0;
        let groups = groups.iter().map(|(strategy, sequences)| {
            let ranks = (next..next + strategy.degree().get()).map(Rank).collect();
            next += strategy.degree().get();
            Group {
                strategy: *strategy,
                ranks,
                sequences: sequences.iter().copied().map(SequenceIndex).collect(),
            }
        });
        MicroBatch {
            groups: groups.collect(),
        }
    });
    Plan::new(micro_batches.collect())
}

/// Bytes that each rank sends in a step of these micro-batches, those of parameters and gradients included.
fn sent(
    (heads, kv_heads): (u64, u64),
    num_ranks: u64,
    seq_lens: &[u64],
    micro_batches: &[Vec<(Strategy, Vec<u32>)>],
) -> Vec<u64> {
    let config = tiny_model(heads as usize, kv_heads as usize, false);
    let batch = batch(seq_lens, config.vocab);
    let plan = plan(micro_batches);
    on_ranks(num_ranks as usize, Bytes::from_mib(512), |world| {
        let mut executor = Executor::new(config.clone(), world.clone(), 3)?;
        let before = world.statistics();
        executor.accumulate_gradients(&plan, &batch)?;
        Ok(world.statistics().since(&before).bytes_sent.0)
    })
}

#[test]
fn ranks_send_what_the_table_says() {
    let table: Value = serde_json::from_str(include_str!("exchanged_bytes.json")).unwrap();
    let seq_lens = numbers(&table["seq_lens"]);
    let (mut measured, mut stated) = (Vec::new(), Vec::new());
    for case in table["cases"].as_array().unwrap() {
        let number = |name: &str| case[name].as_u64().unwrap();
        let heads = (number("heads"), number("kv_heads"));
        let num_ranks = number("num_ranks");
        let micro_batches = groups(&case["micro_batches"]);
        // The same micro-batches, each on one rank: parameters and gradients move as before, and nothing is exchanged.
        let alone: Vec<_> = micro_batches
            .iter()
            .map(|groups| {
                let sequences = groups.iter().flat_map(|(_, sequences)| sequences.clone());
                let alone = Strategy::ulysses(Degree::ONE, Activations::Keep);
                vec![(alone, sequences.collect())]
            })
            .collect();
        let all = sent(heads, num_ranks, &seq_lens, &micro_batches);
        let others = sent(heads, num_ranks, &seq_lens, &alone);
        let exchanged: Vec<u64> = all.iter().zip(others).map(|(a, b)| a - b).collect();
        assert!(exchanged.iter().any(|&bytes| bytes > 0));
        measured.push(exchanged);
        stated.push(numbers(&case["bytes"]));
    }
    assert_eq!(measured, stated);
}
