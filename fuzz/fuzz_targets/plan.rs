//! Any profile, cluster and lengths: a plan that keeps every rule where there is one, else an error with a hint; never
//! a panic.
//!
//! `cargo +nightly fuzz run plan`

#![no_main]

use std::num::NonZero;
use std::time::Duration;

use arbitrary::Arbitrary;
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace, TokenCap, Tokens,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts, predict_step};
use lengthwise_plan::{Planned, PlannerKind, PlannerOptions, Problem};
use libfuzzer_sys::fuzz_target;

/// Up to these sizes trying everything takes milliseconds.
const MAX_ENUMERATED_SEQUENCES: usize = 6;
const MAX_ENUMERATED_DEVICES: u32 = 6;

#[derive(Arbitrary, Debug)]
struct Input {
    lens: Lens,
    nodes: Nodes,
    degrees: Degrees,
    costs: Costs,
    static_degree: u8,
    rules: Rules,
    time_budget_us: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Lens {
    /// Exponent and mantissa of each, as lengths are spread in practice.
    Spread(Vec<(u8, u8)>),
    Any(Vec<u64>),
    Equal(u32, u8),
}

#[derive(Arbitrary, Debug)]
enum Nodes {
    Uniform {
        num_nodes: u8,
        devices_per_node: u8,
        memory: Memory,
    },
    Mixed(Vec<Vec<(Memory, u8)>>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Memory {
    exponent: u8,
    mantissa: u8,
}

#[derive(Arbitrary, Debug)]
enum Degrees {
    UpTo(u8),
    Powers(u8),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Costs {
    figures: [(u8, u8); 8],
    memory_at_degrees: Vec<(u8, u16)>,
    num_heads: Option<u8>,
}

/// What plans have to keep beyond memory; nothing in most inputs.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Rules {
    flags: u8,
    min_degree: u8,
    tokens_per_rank: (u8, u8),
    multiple: u8,
    most_sequences: u8,
}

impl Rules {
    fn rules(self) -> PlanRules {
        if self.flags & 128 == 0 {
            return PlanRules::default();
        }
        let (exponent, mantissa) = self.tokens_per_rank;
        let tokens_per_rank = Tokens(scaled(exponent, mantissa, 16));
        PlanRules {
            no_idle_ranks: self.flags & 1 > 0,
            aligned_powers_of_two: self.flags & 2 > 0,
            min_degree: Degree::new(u32::from(self.min_degree % 4) + 1).unwrap_or(Degree::ONE),
            token_cap: (self.flags & 4 > 0).then_some(TokenCap {
                tokens_per_rank,
                replaces_memory: self.flags & 8 > 0,
            }),
            micro_batches_multiple_of: NonZero::new(u32::from(self.multiple % 4) + 1)
                .unwrap_or(NonZero::<u32>::MIN),
            max_sequences_per_group: NonZero::new(u32::from(self.most_sequences)),
        }
    }
}

/// `mantissa 2^exponent`, with exponents up to `most`.
fn scaled(exponent: u8, mantissa: u8, most: u32) -> u64 {
    u64::from(mantissa) << (u32::from(exponent) % (most + 1))
}

impl Lens {
    fn batch(&self) -> Option<GlobalBatch> {
        let lens = match self {
            Lens::Spread(lens) => lens
                .iter()
                .take(200)
                .map(|&(exponent, mantissa)| scaled(exponent, mantissa, 12))
                .collect(),
            Lens::Any(lens) => lens.iter().copied().take(40).collect(),
            Lens::Equal(len, count) => vec![u64::from(*len); usize::from(*count)],
        };
        GlobalBatch::from_lens(lens).ok()
    }
}

impl Nodes {
    fn cluster(&self) -> Option<Cluster> {
        match self {
            Nodes::Uniform {
                num_nodes,
                devices_per_node,
                memory,
            } => {
                let device = Device::new(memory.bytes(), Speed::NOMINAL);
                let (num_nodes, devices) = (num_nodes % 10, devices_per_node % 12);
                Cluster::uniform(num_nodes.into(), devices.into(), device).ok()
            }
            Nodes::Mixed(nodes) => {
                let device = |&(memory, speed): &(Memory, u8)| {
                    Speed::new((f64::from(speed) + 1.0) / 64.0)
                        .ok()
                        .map(|speed| Device::new(memory.bytes(), speed))
                };
                let nodes = nodes.iter().take(8);
                let nodes = nodes.map(|node| node.iter().take(12).filter_map(device).collect());
                Cluster::from_nodes(nodes.collect()).ok()
            }
        }
    }
}

impl Memory {
    fn bytes(self) -> Bytes {
        Bytes(scaled(self.exponent, self.mantissa, 40))
    }
}

impl Degrees {
    fn space(&self) -> Option<StrategySpace> {
        let degrees: Vec<u32> = match self {
            Degrees::UpTo(heads) => (1..=u32::from(heads % 24)).collect(),
            Degrees::Powers(count) => (0..u32::from(count % 8)).map(|power| 1 << power).collect(),
            Degrees::Any(degrees) => degrees.iter().copied().map(u32::from).collect(),
        };
        let degrees: Vec<Degree> = degrees
            .into_iter()
            .filter_map(|degree| Degree::new(degree).ok())
            .collect();
        StrategySpace::ulysses(&degrees, Activations::Recompute).ok()
    }
}

impl Costs {
    fn model(&self) -> Option<FittedModel> {
        let figure = |index: usize, unit: f64| {
            let (exponent, mantissa) = self.figures[index];
            scaled(exponent, mantissa, 30) as f64 * unit
        };
        let table = |two: usize, eight: usize| {
            [(2, figure(two, 1e-12)), (8, figure(eight, 1e-12))]
                .into_iter()
                .filter_map(|(degree, value)| Some((Degree::new(degree).ok()?, value)))
                .collect()
        };
        let mut memory_bytes_per_token = vec![(Degree::ONE, figure(6, 1e-3))];
        for &(degree, bytes) in self.memory_at_degrees.iter().take(4) {
            if let Ok(degree) = Degree::new(degree.into()) {
                memory_bytes_per_token.push((degree, f64::from(bytes)));
            }
        }
        FittedModel::new(FittedCosts {
            num_heads: self.num_heads.map(u32::from),
            fixed_memory_bytes: figure(7, 1.0),
            micro_batch_overhead_s: figure(7, 1e-9),
            ..FittedCosts::of_kind(
                StrategyKind::ulysses(Activations::Recompute),
                KindCosts {
                    quadratic_s_per_token2: figure(0, 1e-15),
                    linear_s_per_token: figure(1, 1e-12),
                    exchange_s_per_token: table(2, 3),
                    many_nodes_exchange_s_per_token: table(4, 5),
                    memory_bytes_per_token,
                    ..KindCosts::default()
                },
            )
        })
        .ok()
    }
}

/// Whether each sequence fits some group by itself, reckoned without the planner's tables.
fn feasible(problem: Problem<'_>) -> bool {
    let Problem {
        batch,
        cluster,
        cost,
        space,
        ..
    } = problem;
    let mut budgets: Vec<Bytes> = cluster
        .devices()
        .iter()
        .map(|device| cost.budget(device))
        .collect();
    budgets.sort_unstable_by(|a, b| b.cmp(a));
    batch.seq_lens().iter().all(|&seq_len| {
        space.strategies().iter().any(|&strategy| {
            let weakest = budgets.get(strategy.degree().as_usize() - 1);
            weakest.is_some_and(|&budget| cost.sequence_memory(strategy, seq_len) <= budget)
        })
    })
}

/// The plan, held to every rule.
fn plan(kind: PlannerKind, options: PlannerOptions, problem: Problem<'_>) -> Option<Planned> {
    let Problem {
        batch,
        cluster,
        cost,
        space,
        rules,
    } = problem;
    match kind.planner_with(options).plan(problem) {
        Ok(planned) => {
            if let Err(violation) = planned.plan.validate(batch, cluster, space, cost, &rules) {
                panic!("{kind}: {violation}");
            }
            let predicted = predict_step(&planned.plan, batch, cluster, cost);
            let report = &planned.report;
            assert_eq!(report.predicted_step, predicted, "{kind}");
            assert!(
                is_at_most(report.lower_bound.get(), predicted.get()),
                "{kind}: bound {:?} is above the plan's {predicted:?}",
                report.lower_bound
            );
            Some(planned)
        }
        Err(error) => {
            assert!(error.hint().is_some(), "{kind}: {error} has no hint");
            None
        }
    }
}

/// But for the last digits of a sum.
fn is_at_most(a: f64, b: f64) -> bool {
    a <= b * (1.0 + 1e-9)
}

fuzz_target!(|input: Input| {
    let (Some(batch), Some(cluster), Some(space), Some(cost)) = (
        input.lens.batch(),
        input.nodes.cluster(),
        input.degrees.space(),
        input.costs.model(),
    ) else {
        return;
    };
    let problem = Problem {
        batch: &batch,
        cluster: &cluster,
        cost: &cost,
        space: &space,
        rules: input.rules.rules(),
    };
    let mut options = PlannerOptions::default();
    if let Some(microseconds) = input.time_budget_us {
        options = options.with_time_budget(Duration::from_micros(microseconds.into()));
    }
    let feasible = feasible(problem);
    let adaptive = plan(PlannerKind::Adaptive, options, problem);
    // Rules may be impossible to keep, and some planners don't heed them all.
    let is_free = problem.rules.is_empty();
    let agrees = |found: bool| found == feasible;
    assert!(agrees(adaptive.is_some()) || !is_free, "adaptive");
    let quick = PlannerOptions::default().with_time_budget(Duration::from_millis(15));
    let flexsp = plan(PlannerKind::FlexSp, quick, problem);
    assert!(agrees(flexsp.is_some()) || !is_free, "flexsp");
    let fixed = Degree::new(input.static_degree.into()).ok();
    let homogeneous = [
        PlannerKind::Static(None),
        PlannerKind::Static(fixed),
        PlannerKind::BatchAdaptive,
    ]
    .map(|kind| plan(kind, options, problem));
    assert!(feasible || !is_free || homogeneous.iter().all(Option::is_none));

    if batch.num_sequences() <= MAX_ENUMERATED_SEQUENCES
        && cluster.num_devices() <= MAX_ENUMERATED_DEVICES
    {
        let optimum = plan(PlannerKind::Exhaustive, options, problem);
        assert!(agrees(optimum.is_some()) || !is_free, "exhaustive");
        assert!(
            optimum.is_some() || adaptive.is_none(),
            "the oracle finds no plan"
        );
        let others = [adaptive, flexsp].into_iter().chain(homogeneous);
        for (planned, optimum) in others.flatten().zip(optimum.iter().cycle()) {
            let best = optimum.report.predicted_step.get();
            assert!(is_at_most(planned.report.lower_bound.get(), best));
            assert!(is_at_most(best, planned.report.predicted_step.get()));
        }
    }
});
