//! Random problems of few sequences on many devices.

use std::ops::RangeInclusive;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use proptest::collection::vec;
use proptest::prelude::*;

use super::Case;

/// Problems of so many long-tailed lengths on 8 to 64 equal devices, where memory is from scarce to plentiful.
pub fn few_sequences(num_sequences: RangeInclusive<usize>) -> impl Strategy<Value = Case> {
    let lens = (100.0..3000.0, 0.3..1.8f64).prop_flat_map(move |(median, spread): (f64, f64)| {
        // Twelve uniform numbers add up to about a normal one.
        let len = vec(-0.5..0.5, 12).prop_map(move |parts: Vec<f64>| {
            let normal: f64 = parts.iter().sum();
            (median * (spread * normal).exp()).max(1.0) as u64
        });
        vec(len, num_sequences.clone())
    });
    let cluster = (3u32..=6, 1u32..=3).prop_map(|(devices, node)| (1 << devices, 1 << node));
    (lens, cluster).prop_flat_map(|(lens, (num_devices, per_node))| {
        let spaces = prop_oneof![
            Just((1..=num_devices).collect::<Vec<u32>>()),
            Just((0..=num_devices.ilog2()).map(|log| 1 << log).collect()),
            vec(1..=num_devices, 1..=4),
        ];
        (spaces, costs(), 0.1..4.0f64).prop_map(move |(degrees, (costs, bytes), share)| {
            let degrees: Vec<Degree> = degrees.iter().map(|&d| Degree::new(d).unwrap()).collect();
            let largest = degrees.iter().max().unwrap().get();
            let tokens: u64 = lens.iter().sum();
            let longest = *lens.iter().max().unwrap();
            // From four micro-batches up to four times the memory that the batch takes.
            let spread = share * bytes * tokens as f64 / f64::from(num_devices);
            let needed = bytes * (longest as f64 / f64::from(largest) + 1.0);
            let memory = Bytes(spread.max(needed) as u64 + 1);
            let device = Device::new(memory, Speed::NOMINAL);
            Case {
                batch: GlobalBatch::from_lens(lens.clone()).unwrap(),
                cluster: Cluster::uniform(num_devices / per_node, per_node, device).unwrap(),
                cost: FittedModel::new(costs).unwrap(),
                space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
                rules: PlanRules::default(),
            }
        })
    })
}

/// Costs, and the bytes of a token.
fn costs() -> impl Strategy<Value = (FittedCosts, f64)> {
    let log = |low: f64, high: f64| (low.ln()..high.ln()).prop_map(f64::exp);
    let exchange = |low: f64, high: f64| {
        (log(2e4, 1e6), log(low, high), log(low, high)).prop_map(|(bytes, two, many)| {
            [(2, two), (8, many)]
                .map(|(degree, bandwidth)| {
                    let seconds = bytes / bandwidth / f64::from(degree);
                    (Degree::new(degree).unwrap(), seconds)
                })
                .to_vec()
        })
    };
    let figures = (log(1e-10, 1e-9), log(4e-5, 5e-4), log(0.001, 0.05));
    (
        figures,
        exchange(1e10, 2e11),
        exchange(4e8, 2e10),
        log(2e4, 1.2e5),
    )
        .prop_map(|((quadratic, linear, overhead), near, far, bytes)| {
            let costs = FittedCosts {
                micro_batch_overhead_s: overhead,
                ..FittedCosts::of_kind(
                    StrategyKind::ulysses(Activations::Recompute),
                    KindCosts {
                        quadratic_s_per_token2: quadratic,
                        linear_s_per_token: linear,
                        exchange_s_per_token: near,
                        many_nodes_exchange_s_per_token: far,
                        memory_bytes_per_token: vec![(Degree::ONE, bytes)],
                        ..KindCosts::default()
                    },
                )
            };
            (costs, bytes)
        })
}
