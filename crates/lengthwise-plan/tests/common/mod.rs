//! Random planning problems: clusters, costs and lengths of any kind that users could have.

#![allow(dead_code, reason = "each test needs some of it")]

pub mod exact;
pub mod few;

use std::num::NonZero;
use std::path::Path;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Plan, PlanRules, PlanViolation,
    Speed, StrategyKind, StrategySpace, TokenCap, Tokens,
};
use lengthwise_cost::{FittedCosts, FittedModel, HostCosts, KindCosts};
use lengthwise_plan::Problem;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A problem that owns its parts.
#[derive(Clone, Debug)]
pub struct Case {
    pub batch: GlobalBatch,
    pub cluster: Cluster,
    pub cost: FittedModel,
    pub space: StrategySpace,
    pub rules: PlanRules,
}

impl Case {
    pub fn problem(&self) -> Problem<'_> {
        Problem {
            batch: &self.batch,
            cluster: &self.cluster,
            cost: &self.cost,
            space: &self.space,
            rules: self.rules,
        }
    }

    /// Whether a plan is one of this problem.
    pub fn validate(&self, plan: &Plan) -> Result<(), PlanViolation> {
        plan.validate(
            &self.batch,
            &self.cluster,
            &self.space,
            &self.cost,
            &self.rules,
        )
    }
}

/// The lengths of a recorded batch, which is JSON on one line.
pub fn recorded_lens(name: &str) -> Vec<u64> {
    let batches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/batches");
    let text = std::fs::read_to_string(batches.join(format!("{name}.json"))).unwrap();
    let (_, list) = text.split_once("\"seq_lens_tokens\": [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split(',')
        .map(|len| len.trim().parse().unwrap())
        .collect()
}

/// So many problems of a kind, always the same; `LENGTHWISE_CASES` times as many for long runs.
pub fn sample(
    kind: impl Strategy<Value = Case>,
    seed: u8,
    num: usize,
) -> impl Iterator<Item = Case> {
    let times = std::env::var("LENGTHWISE_CASES").map_or(1, |times| times.parse().unwrap());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..num * times).map(move |_| kind.new_tree(&mut runner).unwrap().current())
}

/// How large the problems of [`cases`] are at most.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub num_nodes: usize,
    pub devices_per_node: usize,
    pub num_sequences: usize,
    pub seq_len: u64,
}

/// Problems up to this size, of which a good part can't be planned.
pub fn cases(size: Size) -> impl Strategy<Value = Case> {
    (clusters(size), costs(), spaces(), lens(size)).prop_map(|(cluster, cost, space, lens)| Case {
        batch: GlobalBatch::from_lens(lens).unwrap(),
        cluster,
        cost,
        space,
        rules: PlanRules::default(),
    })
}

/// The same problems with rules, some of which none of its plans can keep.
pub fn cases_with_rules(size: Size) -> impl Strategy<Value = Case> {
    (cases(size), rules(size)).prop_map(|(case, rules)| Case { rules, ..case })
}

/// Problems whose layer inputs may go to hosts, of which devices have different shares, mostly by node.
pub fn cases_with_hosts(size: Size) -> impl Strategy<Value = Case> {
    let share = || prop_oneof![1 => Just(0u64), 4 => 1_000u64..100_000, 1 => Just(u64::MAX)];
    let shares = (vec(share(), size.num_nodes), vec(share(), 8), 0.0..1.0f64);
    let on_host = (0.02..0.5f64, 0.1..5.0f64, 0.0..1e-5f64);
    (cases(size), shares, on_host).prop_map(|(case, shares, on_host)| {
        let (of_nodes, of_devices, is_by_node) = shares;
        let node = |node: usize| {
            let ranks = case.cluster.node_ranks(node).unwrap();
            let devices = ranks.map(|rank| {
                let device = case.cluster.devices()[rank as usize];
                let share = match is_by_node < 0.8 {
                    true => of_nodes[node],
                    false => of_devices[rank as usize % of_devices.len()],
                };
                device.with_host_memory(Bytes(share))
            });
            devices.collect()
        };
        let nodes = (0..case.cluster.num_nodes()).map(node);
        let (kept, host_bytes, copy) = on_host;
        let mut costs = case.cost.costs().clone();
        let recomputed = StrategyKind::ulysses(Activations::Recompute);
        let mut moved = costs.kinds[&recomputed].clone();
        for (_, bytes) in &mut moved.memory_bytes_per_token {
            *bytes *= kept;
        }
        moved.host = Some(HostCosts {
            forward_share: 0.25,
            copy_s_per_token: copy,
            bytes_per_token: host_bytes,
        });
        costs
            .kinds
            .insert(StrategyKind::ulysses(Activations::Host), moved);
        let strategies = case.space.strategies().iter();
        let both = strategies.flat_map(|strategy| {
            let of =
                |activations| lengthwise_core::Strategy::ulysses(strategy.degree(), activations);
            [of(Activations::Recompute), of(Activations::Host)]
        });
        Case {
            cluster: Cluster::from_nodes(nodes.collect()).unwrap(),
            cost: FittedModel::new(costs).unwrap(),
            space: StrategySpace::new(both).unwrap(),
            ..case
        }
    })
}

fn rules(size: Size) -> impl Strategy<Value = PlanRules> {
    let min_degree = prop_oneof![4 => Just(1u32), 1 => Just(2), 1 => Just(3)];
    let log = (size.seq_len as f64).log2();
    let tokens = ((log / 2.0)..log, any::<bool>()).prop_map(|(log, replaces_memory)| TokenCap {
        tokens_per_rank: Tokens(log.exp2() as u64),
        replaces_memory,
    });
    let multiple = prop_oneof![3 => Just(1u32), 1 => Just(2), 1 => Just(3)];
    let most_sequences = prop_oneof![2 => Just(None), 1 => (1u32..4).prop_map(Some)];
    (
        any::<bool>(),
        any::<bool>(),
        min_degree,
        proptest::option::of(tokens),
        multiple,
        most_sequences,
    )
        .prop_map(
            |(busy, aligned, min_degree, token_cap, multiple, most)| PlanRules {
                no_idle_ranks: busy,
                aligned_powers_of_two: aligned,
                min_degree: Degree::new(min_degree).unwrap(),
                token_cap,
                micro_batches_multiple_of: NonZero::new(multiple).unwrap(),
                max_sequences_per_group: most.and_then(NonZero::new),
            },
        )
}

fn lens(size: Size) -> impl Strategy<Value = Vec<u64>> {
    let log = (size.seq_len as f64).log2();
    let len = (0.0..log).prop_map(|log: f64| log.exp2() as u64);
    vec(len, 1..=size.num_sequences)
}

fn clusters(size: Size) -> impl Strategy<Value = Cluster> {
    let device = (20_000u64..200_000, prop_oneof![Just(1.0), 0.5f64..2.0]);
    let device =
        device.prop_map(|(bytes, speed)| Device::new(Bytes(bytes), Speed::new(speed).unwrap()));
    let node = vec(device.clone(), 1..=size.devices_per_node);
    let any = vec(node, 1..=size.num_nodes).prop_map(|nodes| Cluster::from_nodes(nodes).unwrap());
    let equal = (1..=size.num_nodes, 1..=size.devices_per_node, device).prop_map(
        |(nodes, devices, device)| Cluster::uniform(nodes as u32, devices as u32, device).unwrap(),
    );
    prop_oneof![3 => equal, 1 => any]
}

fn spaces() -> impl Strategy<Value = StrategySpace> {
    let any = vec(1u32..10, 1..4).prop_map(|degrees| {
        let degrees: Vec<Degree> = degrees
            .into_iter()
            .map(|d| Degree::new(d).unwrap())
            .collect();
        StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap()
    });
    let all = (1u32..10)
        .prop_map(|heads| StrategySpace::ulysses_up_to(heads, Activations::Recompute).unwrap());
    let powers = [1, 2, 4, 8].map(|d| Degree::new(d).unwrap());
    let powers = StrategySpace::ulysses(&powers, Activations::Recompute).unwrap();
    prop_oneof![1 => any, 2 => all, 2 => Just(powers)]
}

fn costs() -> impl Strategy<Value = FittedModel> {
    let table = |low: f64, high: f64| {
        (low..high, low..high).prop_map(|(two, eight)| {
            [(2, two), (8, eight)]
                .map(|(degree, figure)| (Degree::new(degree).unwrap(), figure))
                .to_vec()
        })
    };
    (
        (0.0..4e-9, 1e-6..1e-5, proptest::option::of(1u32..9)),
        (table(0.0, 2e-6), table(0.0, 2e-5)),
        (1.0..20.0, 0.0..10_000.0, 0.0..0.02),
    )
        .prop_map(
            |((quadratic, linear, num_heads), (near, far), (bytes, fixed, overhead))| {
                FittedModel::new(FittedCosts {
                    num_heads,
                    fixed_memory_bytes: fixed,
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
                })
                .unwrap()
            },
        )
}
