//! The rule of Megatron-Core's dynamic context parallelism, to compare with and to start from.

mod fill;
mod forming;
mod limit;
mod ranks;
mod tokens_per_rank;
mod virtual_stages;

use std::time::Instant;

use lengthwise_core::{
    Group, MicroBatch, Plan, Rank, Sequence, SequenceIndex, Strategy, StrategySpace, Tokens,
};
use lengthwise_cost::predict_group;

use crate::bound::{Effort, Keep, lower_bound};
use crate::deadline::Deadline;
use crate::instance::Instance;
use crate::{PlanError, Planned, Planner, Problem};
use forming::next_micro_batch;
pub use limit::MegatronLimit;
use ranks::{RankGroup, Ranks};
use tokens_per_rank::tokens_per_rank;
use virtual_stages::align;

/// The decisions of Megatron-Core's scheduler `default_dynamic_cp`, in the version that is aware of packing.
///
/// It knows no costs: groups are the smallest power of two that a sequence fits, by tokens per rank, unless a larger one
/// keeps the most squared tokens of any rank lower. It takes sequences longest first until nothing fits, then doubles the
/// smallest groups until no rank idles, and begins the next micro-batch.
///
/// The most tokens per rank are those of the problem's rules, or all that memory allows. Costs choose among the
/// strategies of a degree and predict the step. What the rule can't plan is a [`MegatronLimit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Megatron;

const NAME: &str = "megatron";

impl Planner for Megatron {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl Megatron {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let plan = plan_for(problem)?;
        let effort = Effort::until(Deadline::default()).keeping(keep);
        let bound = |known| lower_bound(&instance, known, effort);
        Ok(Planned::of_plan(plan, &instance, 1, bound, started))
    }
}

/// The plan of the rule, also for other planners to start from.
///
/// # Errors
///
/// A [`MegatronLimit`], or a rule of the problem that the plan breaks, or memory that it lacks.
pub(crate) fn plan_for(problem: Problem<'_>) -> Result<Plan, PlanError> {
    let tokens_per_rank = tokens_per_rank(problem);
    if tokens_per_rank == Tokens(0) {
        return Err(MegatronLimit::NoTokens.into());
    }
    let ranks = Ranks {
        num: problem.cluster.num_devices(),
        tokens_per_rank,
        min_degree: problem.rules.min_degree.get(),
    };
    let mut left: Vec<Sequence> = problem.batch.sequences().collect();
    left.sort_by_key(|sequence| std::cmp::Reverse(sequence.seq_len));
    let mut micro_batches = Vec::new();
    while !left.is_empty() {
        let formed = next_micro_batch(&left, &ranks)?;
        micro_batches.push(formed.groups);
        left = formed.left;
    }
    let multiple_of = problem.rules.micro_batches_multiple_of.get();
    align(&mut micro_batches, multiple_of, ranks.num)?;
    let micro_batches: Result<_, MegatronLimit> = micro_batches
        .into_iter()
        .map(|groups| with_strategies(groups, problem))
        .collect();
    let plan = Plan::new(micro_batches?);
    let Problem {
        batch,
        cluster,
        cost,
        space,
        rules,
    } = problem;
    match plan.validate(batch, cluster, space, cost, &rules) {
        Ok(()) => Ok(plan),
        Err(violation) => Err(PlanError::BreaksRule {
            planner: NAME,
            violation,
        }),
    }
}

/// The micro-batch of these groups, each with the fastest strategy of its degree that fits it.
fn with_strategies(
    groups: Vec<RankGroup>,
    problem: Problem<'_>,
) -> Result<MicroBatch, MegatronLimit> {
    let mut first = 0;
    let groups = groups.into_iter().map(|RankGroup { degree, sequences }| {
        let ranks = first..first + degree;
        first += degree;
        let ranks: Vec<Rank> = ranks.map(Rank).collect();
        let sequences: Vec<SequenceIndex> = sequences.iter().map(|s| s.index).collect();
        let strategies = of_degree(problem.space, degree).map(|strategy| Group {
            strategy,
            ranks: ranks.clone(),
            sequences: sequences.clone(),
        });
        let fastest = strategies.min_by(|a, b| {
            let lacks_memory = |group| problem.rules.limits_memory() && !fits(group, problem);
            let time = |group| predict_group(group, problem.batch, problem.cluster, problem.cost);
            let by_memory = lacks_memory(a).cmp(&lacks_memory(b));
            by_memory.then_with(|| time(a).get().total_cmp(&time(b).get()))
        });
        fastest.ok_or_else(|| MegatronLimit::NoStrategy {
            degree,
            available: listed_degrees(problem.space),
        })
    });
    Ok(MicroBatch {
        groups: groups.collect::<Result<_, _>>()?,
    })
}

fn of_degree(space: &StrategySpace, degree: u32) -> impl Iterator<Item = Strategy> {
    let strategies = space.strategies().iter().copied();
    strategies.filter(move |strategy| strategy.degree().get() == degree)
}

/// Whether every device of a group has the memory for its sequences.
fn fits(group: &Group, problem: Problem<'_>) -> bool {
    let needed = problem.cost.group_memory(group, problem.batch);
    let on_host = problem.cost.group_host_memory(group, problem.batch);
    let devices = group.ranks.iter();
    let mut devices = devices.filter_map(|&rank| problem.cluster.device(rank));
    devices.all(|device| {
        needed <= problem.cost.budget(device) && on_host <= problem.cost.host_budget(device)
    })
}

fn listed_degrees(space: &StrategySpace) -> String {
    let degrees: Vec<String> = space.degrees().map(|degree| degree.to_string()).collect();
    degrees.join(", ")
}
