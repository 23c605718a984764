//! How many events a second of processor time the simulator handles, on steps of 32 layers on 64 and 1,024 devices.
//!
//! An event is a stretch of work or a wait that ends, or a transfer that starts, flows or ends.

#![allow(missing_docs, reason = "divan's macros make undocumented items")]
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Group, MicroBatch, Plan, Rank,
    Seconds, SequenceIndex, Speed, Strategy, StrategyKind,
};
use lengthwise_cost::{ClusterLinks, FittedCosts, FittedModel, KindCosts, Link};
use lengthwise_sim::{Overlap, ShardedBytes, SimulatedStep, StepCosts, simulate};

const NUM_LAYERS: u32 = 32;
const NUM_MICRO_BATCHES: u32 = 4;
const DEVICES_PER_NODE: u32 = 8;

/// A step in which every node has groups of 4, 2, 1 and 1, or every pair of nodes one of 16, in turn.
struct Case {
    plan: Plan,
    batch: GlobalBatch,
    cluster: Cluster,
    model: FittedModel,
    is_described: bool,
}

impl Case {
    fn new(num_devices: u32, is_described: bool) -> Self {
        let mut lens = Vec::new();
        let micro_batches = (0..NUM_MICRO_BATCHES).map(|micro_batch| {
            let pattern: &[u32] = if micro_batch % 2 == 0 {
                &[4, 2, 1, 1]
            } else {
                &[16]
            };
            let mut groups = Vec::new();
            let mut next = 0;
            for &degree in pattern.iter().cycle() {
                if next + degree > num_devices {
                    break;
                }
                // No two groups are equal, so that hardly any events coincide.
                let index = lens.len() as u32;
                lens.push(u64::from(degree) * 1000 + u64::from(index) * 7);
                groups.push(Group {
                    strategy: Strategy::ulysses(degree_of(degree), Activations::Recompute),
                    ranks: (next..next + degree).map(Rank).collect(),
                    sequences: vec![SequenceIndex(index)],
                });
                next += degree;
            }
            MicroBatch { groups }
        });
        let plan = Plan::new(micro_batches.collect());
        let device = Device::new(Bytes(1 << 40), Speed::NOMINAL);
        Case {
            plan,
            batch: GlobalBatch::from_lens(lens).expect("there are sequences"),
            cluster: Cluster::with_num_devices(num_devices, DEVICES_PER_NODE, device)
                .expect("there are devices"),
            model: FittedModel::new(FittedCosts {
                micro_batch_overhead_s: 0.5,
                ..FittedCosts::of_kind(
                    StrategyKind::ulysses(Activations::Recompute),
                    KindCosts {
                        quadratic_s_per_token2: 5e-9,
                        linear_s_per_token: 2e-4,
                        exchange_s_per_token: vec![(degree_of(2), 1e-5), (degree_of(16), 1e-5)],
                        ..KindCosts::default()
                    },
                )
            })
            .expect("the figures are quantities"),
            is_described,
        }
    }

    fn simulate(&self) -> SimulatedStep {
        let link = |bandwidth| Link::new(bandwidth, Seconds::ZERO).expect("a bandwidth");
        let mut costs =
            StepCosts::measured(&self.model, NUM_LAYERS, 2e6).expect("there are layers");
        if self.is_described {
            let links = ClusterLinks {
                device: link(300e9),
                nics_per_node: 4,
                nic: link(25e9),
            };
            let bytes = Bytes(14 << 30);
            let sharded = ShardedBytes {
                parameters: bytes,
                gradients: bytes,
            };
            costs = costs.over_links(links, sharded, Seconds::ZERO);
        }
        let overlap = Overlap::default();
        simulate(
            &self.plan,
            &self.batch,
            &self.cluster,
            &costs,
            overlap,
            &mut (),
        )
        .expect("the plan can be run")
    }
}

fn degree_of(degree: u32) -> Degree {
    Degree::new(degree).expect("at least 1")
}

#[divan::bench(args = [64, 1024])]
fn measured(bencher: Bencher<'_, '_>, num_devices: u32) {
    bench(bencher, &Case::new(num_devices, false));
}

#[divan::bench(args = [64, 1024])]
fn over_links(bencher: Bencher<'_, '_>, num_devices: u32) {
    bench(bencher, &Case::new(num_devices, true));
}

fn bench(bencher: Bencher<'_, '_>, case: &Case) {
    let num_events = case.simulate().num_events;
    bencher
        .counter(ItemsCount::new(num_events))
        .bench_local(|| case.simulate());
}

/// Seconds that this thread has computed, which a busy machine doesn't stretch; the time of day where the system
/// doesn't tell.
fn computed(epoch: Instant) -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| epoch.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

fn main() {
    let epoch = Instant::now();
    for num_devices in [64, 1024] {
        for is_described in [false, true] {
            let case = Case::new(num_devices, is_described);
            let started = computed(epoch);
            let mut num_events = 0;
            let mut num_steps = 0;
            while num_steps < 3 || computed(epoch) - started < 0.3 {
                num_events += case.simulate().num_events;
                num_steps += 1;
            }
            let seconds = computed(epoch) - started;
            let how = if is_described {
                "over links"
            } else {
                "as measured"
            };
            println!(
                "{num_devices:>5} devices, {how:>11}: {:.2} million events/s, {} events and {:.1} ms a step",
                num_events as f64 / seconds / 1e6,
                num_events / num_steps,
                seconds * 1e3 / num_steps as f64
            );
        }
    }
    divan::main();
}
