//! What holds of every simulated step, whatever the plan and the cluster.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

mod common;

use std::collections::BTreeMap;

use common::Described;
use lengthwise_core::{
    Activations, Activity, ActivityClass, Bytes, Cluster, Degree, Device, GlobalBatch, Group,
    MemoryModel, MicroBatch, Plan, Rank, SequenceIndex, Speed, Strategy, TraceEvent,
};
use lengthwise_cost::{
    CostModel, FittedCosts, FittedModel, GroupShape, KindCosts, predict_micro_batch, predict_step,
};
use lengthwise_sim::{
    ChromeTraceWriter, LinkPlace, Overlap, SimulatedStep, StepCosts, TraceSource,
    check_chrome_trace, simulate,
};
use proptest::collection::vec;
use proptest::prelude::{Strategy as Generator, *};

/// A step, and how to simulate it.
#[derive(Clone, Debug)]
struct Case {
    batch: GlobalBatch,
    cluster: Cluster,
    plan: Plan,
    model: FittedModel,
    num_layers: u32,
    overlap: Overlap,
    described: Described,
}

const BYTES_PER_TOKEN: f64 = 4096.0;

impl Case {
    fn measured(&self) -> (SimulatedStep, Vec<TraceEvent>) {
        self.run(&StepCosts::measured(&self.model, self.num_layers, BYTES_PER_TOKEN).unwrap())
    }

    fn over_links(&self) -> (SimulatedStep, Vec<TraceEvent>) {
        let costs = self
            .described
            .costs(&self.model, self.num_layers, BYTES_PER_TOKEN);
        self.run(&costs)
    }

    fn run(&self, costs: &StepCosts<'_>) -> (SimulatedStep, Vec<TraceEvent>) {
        let mut events = Vec::new();
        let step = simulate(
            &self.plan,
            &self.batch,
            &self.cluster,
            costs,
            self.overlap,
            &mut events,
        );
        (step.unwrap(), events)
    }

    fn with_speeds(&self, speed: impl Fn(usize) -> f64) -> Case {
        let mut case = self.clone();
        let nodes = (0..case.cluster.num_nodes()).map(|node| {
            let ranks = self.cluster.node_ranks(node).unwrap();
            ranks
                .map(|rank| common::device(speed(rank as usize)))
                .collect()
        });
        case.cluster = Cluster::from_nodes(nodes.collect()).unwrap();
        case
    }
}

fn cases() -> impl Generator<Value = Case> {
    let cluster = vec(vec(prop_oneof![Just(1.0), 0.3f64..2.0], 1..4), 1..4);
    let described = (
        1e4f64..1e7,
        1e4f64..1e7,
        1u32..4,
        0.0..1e-3,
        0.0..1e-2,
        0u64..1_000_000,
    );
    let costs = (
        0.0..1e-7,
        1e-6..1e-4,
        proptest::option::of(1u32..9),
        0.0..1e-4,
        0.0..1e-3,
        0.0..0.1,
    );
    (
        cluster,
        // Micro-batches: shuffled ranks are cut into groups of these degrees, with so many sequences each.
        vec(
            vec((1u32..5, vec(1u64..2000, 1..4), any::<bool>()), 1..5),
            1..4,
        ),
        any::<u64>(),
        described,
        costs,
        (1u32..5, any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(nodes, groups, seed, links, costs, (num_layers, prefetch, scatters))| {
                let nodes = nodes.into_iter().map(|node| {
                    let device = |speed| Device::new(Bytes(1 << 40), Speed::new(speed).unwrap());
                    node.into_iter().map(device).collect()
                });
                let cluster = Cluster::from_nodes(nodes.collect()).unwrap();
                let (plan, lens) = plan_of(groups, cluster.num_devices(), seed);
                let (quadratic, linear, num_heads, near, far, overhead) = costs;
                let entry = |seconds| vec![(Degree::new(2).unwrap(), seconds)];
                let model = FittedModel::new(FittedCosts {
                    num_heads,
                    fixed_memory_bytes: 5000.0,
                    micro_batch_overhead_s: overhead,
                    ..common::whatever_is_done_with_activations(&KindCosts {
                        quadratic_s_per_token2: quadratic,
                        linear_s_per_token: linear,
                        exchange_s_per_token: entry(near),
                        many_nodes_exchange_s_per_token: entry(far),
                        memory_bytes_per_token: vec![(Degree::ONE, 100.0)],
                        ..KindCosts::default()
                    })
                });
                let (device, nic, nics_per_node, device_latency_s, nic_latency_s, parameter_bytes) =
                    links;
                Case {
                    batch: GlobalBatch::from_lens(lens).unwrap(),
                    cluster,
                    plan,
                    model: model.unwrap(),
                    num_layers,
                    overlap: Overlap { prefetch, scatters },
                    described: Described {
                        device_bytes_per_s: device,
                        nic_bytes_per_s: nic,
                        nics_per_node,
                        device_latency_s,
                        nic_latency_s,
                        parameter_bytes,
                    },
                }
            },
        )
}

type Groups = Vec<Vec<(u32, Vec<u64>, bool)>>;

fn plan_of(micro_batches: Groups, num_ranks: u32, mut seed: u64) -> (Plan, Vec<u64>) {
    let mut lens = Vec::new();
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    let plan = micro_batches.into_iter().map(|groups| {
        let mut ranks: Vec<Rank> = (0..num_ranks).map(Rank).collect();
        for index in (1..ranks.len()).rev() {
            ranks.swap(index, random() as usize % (index + 1));
        }
        let mut list = Vec::new();
        for (degree, seq_lens, recompute) in groups {
            if ranks.is_empty() {
                break;
            }
            let members = ranks.split_off(ranks.len() - (degree as usize).min(ranks.len()));
            let first = lens.len() as u32;
            lens.extend(seq_lens);
            list.push(Group {
                strategy: Strategy::ulysses(
                    Degree::new(members.len() as u32).unwrap(),
                    if recompute {
                        Activations::Recompute
                    } else {
                        Activations::Keep
                    },
                ),
                ranks: members,
                sequences: (first..lens.len() as u32).map(SequenceIndex).collect(),
            });
        }
        MicroBatch { groups: list }
    });
    let plan = Plan::new(plan.collect());
    (plan, lens)
}

fn of_rank(events: &[TraceEvent], rank: Rank) -> Vec<TraceEvent> {
    let events = events.iter().filter(|event| event.rank == rank);
    events.copied().collect()
}

/// What a device computes, without the waiting between.
fn computing(events: &[TraceEvent], rank: Rank) -> Vec<TraceEvent> {
    let events = of_rank(events, rank).into_iter();
    events
        .filter(|event| event.activity.class() == ActivityClass::Compute)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A rank does one thing at a time, all of the time: its events follow each other without gap or overlap.
    #[test]
    fn a_rank_does_one_thing_at_a_time_and_its_times_add_up(case in cases()) {
        for (step, events) in [case.measured(), case.over_links()] {
            let tolerance = 1e-9 * step.step.get().max(1.0);
            for rank in case.cluster.ranks() {
                let mut end = 0.0;
                for event in of_rank(&events, rank) {
                    prop_assert!((event.start.get() - end).abs() <= tolerance, "{event:?} does not begin at {end}");
                    prop_assert!(event.duration.get() > 0.0);
                    end = event.end().get();
                }
                prop_assert!((end - step.step.get()).abs() <= tolerance, "rank {rank} ends at {end}");
                let usage = step.ranks[rank.index()].usage;
                let total = (usage.busy() + usage.idle).get();
                prop_assert!((total - step.step.get()).abs() <= tolerance, "rank {rank} has {total}");
            }
            let makespans: f64 = step.micro_batches.iter().map(|m| m.makespan.get()).sum();
            prop_assert!((makespans - step.step.get()).abs() <= tolerance);
        }
    }

    #[test]
    fn no_link_is_ever_above_its_bandwidth(case in cases()) {
        let (step, _) = case.over_links();
        for link in &step.links {
            prop_assert!(link.peak_load <= 1.0 + 1e-9, "{} had {}", link.place, link.peak_load);
            prop_assert!(link.utilisation <= link.peak_load + 1e-9);
        }
    }

    /// No step is shorter than what any device has to compute, or any link to carry.
    #[test]
    fn no_step_is_shorter_than_the_work_of_any_single_resource(case in cases()) {
        let (measured, _) = case.measured();
        let (described, _) = case.over_links();
        let mut compute = vec![0.0; case.cluster.num_devices() as usize];
        let mut passed_on = vec![0.0; compute.len()];
        for group in case.plan.micro_batches().iter().flat_map(|m| &m.groups) {
            for sequence in &group.sequences {
                let seq_len = case.batch.seq_len(*sequence).unwrap();
                let parts = case.model.time_parts(GroupShape::of(group, &case.cluster), seq_len);
                for rank in &group.ranks {
                    let speed = case.cluster.device(*rank).unwrap().speed();
                    compute[rank.index()] += ((parts.dense + parts.attention) / speed).get();
                    let node = case.cluster.node_of(*rank);
                    let here = group.ranks.iter().filter(|&&other| case.cluster.node_of(other) == node).count();
                    let degree = group.ranks.len() as f64;
                    passed_on[rank.index()] +=
                        BYTES_PER_TOKEN * seq_len.as_f64() / degree * (here as f64 - 1.0) / degree;
                }
            }
        }
        for step in [&measured, &described] {
            for (rank, &seconds) in compute.iter().enumerate() {
                let simulated = step.ranks[rank].usage.compute.get();
                prop_assert!((simulated - seconds).abs() <= 1e-9 * seconds.max(1e-9));
                prop_assert!(step.step.get() >= seconds * (1.0 - 1e-9));
            }
        }
        for link in &described.links {
            let least = link.bytes / link.bandwidth_bytes_per_s;
            prop_assert!(described.step.get() >= least * (1.0 - 1e-9), "{} needs {least}", link.place);
            if let LinkPlace::Device { rank } = link.place {
                prop_assert!(link.bytes >= passed_on[rank.index()] * (1.0 - 1e-9));
            }
        }
    }

    #[test]
    fn with_measured_costs_and_equal_devices_the_step_is_the_predicted_one(case in cases()) {
        let case = case.with_speeds(|_| 1.0);
        let (step, _) = case.measured();
        let predicted = predict_step(&case.plan, &case.batch, &case.cluster, &case.model).get();
        prop_assert!((step.step.get() - predicted).abs() <= 1e-9 * predicted, "{} for {predicted}", step.step);
        for (simulated, micro_batch) in step.micro_batches.iter().zip(case.plan.micro_batches()) {
            let predicted = predict_micro_batch(micro_batch, &case.batch, &case.cluster, &case.model).get();
            prop_assert!((simulated.makespan.get() - predicted).abs() <= 1e-9 * predicted);
        }
    }

    /// Links that hold nothing back leave what devices compute, and the waiting for the slowest of them.
    #[test]
    fn links_without_limits_leave_nothing_but_computing(mut case in cases()) {
        case.described = Described::default();
        let (step, _) = case.over_links();
        for rank in &step.ranks {
            prop_assert!(rank.usage.exposed_communication.get() <= 1e-6 * step.step.get());
        }
    }

    #[test]
    fn a_straggler_slows_exactly_its_group(case in cases(), which in any::<prop::sample::Index>()) {
        let straggler = which.index(case.cluster.num_devices() as usize);
        let equal = case.with_speeds(|_| 1.0);
        let slowed = case.with_speeds(|rank| if rank == straggler { 0.5 } else { 1.0 });
        let (before, events_before) = equal.measured();
        let (after, events_after) = slowed.measured();
        for (index, micro_batch) in case.plan.micro_batches().iter().enumerate() {
            let begins = [&before, &after].map(|step| step.micro_batches[index].start.get());
            let timeline = |events: &[TraceEvent], rank, begin: f64| -> Vec<(Activity, f64, f64)> {
                let events = of_rank(events, rank).into_iter();
                let inside = events.filter(|event| event.micro_batch == Some(index as u32));
                inside
                    .filter(|event| event.activity.class() != ActivityClass::Idle)
                    .map(|event| (event.activity, event.start.get() - begin, event.duration.get()))
                    .collect()
            };
            for group in &micro_batch.groups {
                let is_slowed = group.ranks.contains(&Rank(straggler as u32));
                for &rank in &group.ranks {
                    let lists = [(&events_before, begins[0]), (&events_after, begins[1])]
                        .map(|(events, begin)| timeline(events, rank, begin));
                    let [before, after] = lists;
                    if !is_slowed {
                        prop_assert_eq!(before.len(), after.len());
                        for (before, after) in before.iter().zip(&after) {
                            prop_assert_eq!(before.0, after.0);
                            prop_assert!((before.1 - after.1).abs() < 1e-9 && (before.2 - after.2).abs() < 1e-9);
                        }
                    } else if !before.is_empty() {
                        let end = |list: &[(Activity, f64, f64)]| list.last().map(|event| event.1 + event.2);
                        prop_assert!(end(&after) > end(&before), "{group:?} is not slowed");
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_step_is_simulated_the_same_twice(case in cases()) {
        prop_assert_eq!(case.measured(), case.measured());
        prop_assert_eq!(case.over_links(), case.over_links());
    }

    /// Every layer is computed forward, recomputed where asked for, and backward, in that order.
    #[test]
    fn a_rank_works_through_its_layers_in_order(case in cases()) {
        let (_, events) = case.over_links();
        for rank in case.cluster.ranks() {
            let mut by_micro_batch: BTreeMap<u32, Vec<TraceEvent>> = BTreeMap::new();
            for event in computing(&events, rank) {
                by_micro_batch.entry(event.micro_batch.unwrap()).or_default().push(event);
            }
            for (micro_batch, events) in by_micro_batch {
                let (group, _) = case.plan.micro_batches()[micro_batch as usize].group_of(rank).unwrap();
                let dense = events.iter().filter(|event| event.activity == Activity::Dense);
                let walked: Vec<_> = dense.map(|event| (event.pass.unwrap().name(), event.layer.unwrap())).collect();
                let mut expected = Vec::new();
                for layer in 0..case.num_layers {
                    expected.extend([("forward", layer); 2]);
                }
                for layer in (0..case.num_layers).rev() {
                    if group.strategy.activations().recomputes() {
                        expected.extend([("recompute", layer); 2]);
                    }
                    expected.extend([("backward", layer); 2]);
                }
                prop_assert_eq!(walked, expected);
            }
        }
    }

    #[test]
    fn peak_memory_is_that_of_the_largest_group(case in cases()) {
        let (step, _) = case.measured();
        for rank in case.cluster.ranks() {
            let groups = case.plan.micro_batches().iter().filter_map(|m| m.group_of(rank));
            let largest = groups.map(|(group, _)| case.model.group_memory(group, &case.batch).0).max();
            prop_assert_eq!(step.ranks[rank.index()].peak_memory.0, 5000 + largest.unwrap_or(0));
        }
    }

    #[test]
    fn every_trace_passes_the_check(case in cases()) {
        let (step, events) = case.over_links();
        let mut writer = ChromeTraceWriter::new(Vec::new(), &case.cluster, TraceSource::Simulated).unwrap();
        for event in &events {
            lengthwise_core::TraceSink::record(&mut writer, event);
        }
        let summary = check_chrome_trace(&writer.finish().unwrap()[..]).unwrap();
        prop_assert_eq!(summary.num_threads, case.cluster.num_devices() as usize);
        prop_assert_eq!(summary.num_processes, case.cluster.num_nodes());
        prop_assert_eq!(summary.num_events.values().sum::<u64>(), events.len() as u64);
        prop_assert!((summary.end_us - step.step.get() * 1e6).abs() < 1e-2);
    }
}
