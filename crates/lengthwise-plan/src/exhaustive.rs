//! The planner that tries everything: the oracle that others are tested against.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use lengthwise_core::{
    Group, JointMemory, MicroBatch, Plan, Rank, Seconds, SequenceIndex, Strategy,
};
use lengthwise_cost::{GroupShape, Span, predict_step};

use crate::bound::{Effort, Keep, longest_first_bound};
use crate::budget::{Budget, budgets_by_node};
use crate::certificate::Certified;
use crate::deadline::Deadline;
use crate::instance::Instance;
use crate::load::Load;
use crate::placement::needs_runs;
use crate::rules::no_plan_found;
use crate::{Attempts, PlanError, PlanReport, Planned, Planner, Problem, StopReason};

/// Tries every partition of the batch into micro-batches and groups, every strategy and every choice of devices.
///
/// The best makespan is found for every subset of sequences, on every multiset of devices, then the best
/// partition of the batch into such subsets. It shares nothing with the other planners but the cost model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exhaustive;

impl Exhaustive {
    /// The most sequences that are enumerated.
    pub const MAX_SEQUENCES: usize = 9;
    /// The most devices.
    pub const MAX_DEVICES: u32 = 16;
}

impl Planner for Exhaustive {
    fn name(&self) -> &'static str {
        "exhaustive"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl Exhaustive {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let num_sequences = problem.batch.num_sequences();
        let num_devices = problem.cluster.num_devices();
        let too_large = PlanError::TooLargeToEnumerate {
            num_sequences,
            num_devices,
            max_sequences: Self::MAX_SEQUENCES,
            max_devices: Self::MAX_DEVICES,
        };
        if num_sequences > Self::MAX_SEQUENCES || num_devices > Self::MAX_DEVICES {
            return Err(too_large);
        }
        let planned = plan_until(problem, Deadline::default(), keep)?;
        planned.ok_or(too_large)
    }
}

/// The best plan, or `None` where the deadline comes first.
pub(crate) fn plan_until(
    problem: Problem<'_>,
    deadline: Deadline,
    keep: Keep,
) -> Result<Option<Planned>, PlanError> {
    let started = Instant::now();
    let instance = Instance::new(problem)?;
    let plan = match Enumeration::new(problem, deadline).best_plan() {
        Enumerated::Best(plan) => plan,
        Enumerated::NoPlan => return Err(no_plan_found(&instance)),
        Enumerated::OutOfTime => return Ok(None),
    };
    let predicted_step = predict_step(&plan, problem.batch, problem.cluster, problem.cost);
    // That everything was tried is no proof that could be checked in less time.
    let certified = (keep == Keep::Proof).then(|| {
        let found = longest_first_bound(&instance, predicted_step.get(), Effort::for_proof());
        let proof = found.proof?;
        Some(Box::new(Certified::new(&instance, found.bound, proof)))
    });
    Ok(Some(Planned {
        plan,
        report: PlanReport {
            predicted_step,
            lower_bound: predicted_step,
            bounded_degrees: None,
            stop_reason: StopReason::Optimal,
            solve_time: started.elapsed().into(),
            // Everything is, in no order that could be counted.
            tried: Attempts::default(),
        },
        certified: certified.flatten(),
    }))
}

/// Whether the enumeration takes no longer than the heuristics would.
pub(crate) fn is_tiny(problem: Problem<'_>) -> bool {
    let num_sequences = problem.batch.num_sequences();
    if num_sequences > 8 || problem.cluster.num_devices() > 8 {
        return false;
    }
    let kinds = Enumeration::new(problem, Deadline::default()).kinds;
    let states: usize = kinds.iter().map(|kind| kind.ranks.len() + 1).product();
    3usize.pow(num_sequences as u32) * problem.space.strategies().len() * states * states
        < 20_000_000
}

/// Devices of one node that are alike.
struct Kind {
    node: usize,
    budget: Budget,
    speed: f64,
    ranks: Vec<Rank>,
}

/// A group: its sequences as a set of bits, and how many devices of each kind.
#[derive(Clone)]
struct Choice {
    sequences: u32,
    strategy: Strategy,
    taken: Vec<u8>,
}

/// The outcome of an enumeration.
enum Enumerated {
    Best(Plan),
    /// No plan keeps the rules.
    NoPlan,
    OutOfTime,
}

type State = (u32, Vec<u8>);

struct Enumeration<'p> {
    problem: Problem<'p>,
    kinds: Vec<Kind>,
    strategies: Vec<Strategy>,
    joint_memory: JointMemory,
    /// Whether each device is a kind of its own, so that groups can be told to be aligned runs.
    in_runs: bool,
    /// The best makespan for a set of sequences on what is left of each kind, and its first group.
    best: HashMap<State, (f64, Option<Choice>)>,
    deadline: Deadline,
    is_out_of_time: bool,
}

impl<'p> Enumeration<'p> {
    fn new(problem: Problem<'p>, deadline: Deadline) -> Self {
        let cluster = problem.cluster;
        let in_runs = needs_runs(cluster, &problem.rules);
        let mut kinds: Vec<Kind> = Vec::new();
        let budgets = budgets_by_node(problem).into_iter().flatten();
        for (rank, budget) in cluster.ranks().zip(budgets) {
            let (Some(node), Some(device)) = (cluster.node_of(rank), cluster.device(rank)) else {
                continue;
            };
            let speed = device.speed().get();
            let alike = |kind: &&mut Kind| {
                !in_runs && (kind.node, kind.budget) == (node, budget) && kind.speed == speed
            };
            match kinds.iter_mut().find(alike) {
                Some(kind) => kind.ranks.push(rank),
                None => kinds.push(Kind {
                    node,
                    budget,
                    speed,
                    ranks: vec![rank],
                }),
            }
        }
        let strategies = problem.space.strategies().iter();
        let allowed = |strategy: &&Strategy| problem.rules.allows_degree(strategy.degree());
        Enumeration {
            problem,
            joint_memory: JointMemory::of(problem.cost, cluster),
            strategies: strategies.filter(allowed).copied().collect(),
            kinds,
            in_runs,
            best: HashMap::new(),
            deadline,
            is_out_of_time: false,
        }
    }

    fn best_plan(mut self) -> Enumerated {
        let num_sequences = self.problem.batch.num_sequences();
        let all = (1u32 << num_sequences) - 1;
        let overhead = self.problem.cost.micro_batch_overhead().get();
        let everything: Vec<u8> = self
            .kinds
            .iter()
            .map(|kind| kind.ranks.len() as u8)
            .collect();
        let multiple = self.problem.rules.micro_batches_multiple_of.get() as usize;
        // The best time for a set of sequences, and its first micro-batch: for each number of micro-batches, by what is left
        // when it is divided by the multiple that the rules ask for.
        let mut steps: Vec<Vec<(f64, u32)>> = vec![vec![(f64::INFINITY, 0); multiple]];
        steps[0][0] = (0.0, 0);
        for set in 1..=all {
            let lowest = set & set.wrapping_neg();
            let mut best = vec![(f64::INFINITY, set); multiple];
            for part in subsets(set).filter(|part| part & lowest != 0) {
                let makespan = overhead + self.makespan(part, &everything);
                for (residue, best) in best.iter_mut().enumerate() {
                    let before = (residue + multiple - 1) % multiple;
                    let time = makespan + steps[(set & !part) as usize][before].0;
                    if time < best.0 {
                        *best = (time, part);
                    }
                }
            }
            steps.push(best);
            if self.is_out_of_time {
                return Enumerated::OutOfTime;
            }
        }
        if !steps[all as usize][0].0.is_finite() {
            return Enumerated::NoPlan;
        }
        let mut micro_batches = Vec::new();
        let (mut left, mut residue) = (all, 0);
        while left != 0 {
            let part = steps[left as usize][residue].1;
            micro_batches.push(self.micro_batch(part, everything.clone()));
            left &= !part;
            residue = (residue + multiple - 1) % multiple;
        }
        Enumerated::Best(Plan::new(micro_batches))
    }

    /// The shortest makespan of `sequences` on so many devices of each kind; infinite where they don't fit.
    fn makespan(&mut self, sequences: u32, left: &[u8]) -> f64 {
        if sequences == 0 {
            let idles = left.iter().any(|&left| left > 0);
            let must_not = self.problem.rules.no_idle_ranks;
            return if idles && must_not {
                f64::INFINITY
            } else {
                0.0
            };
        }
        let state = (sequences, left.to_vec());
        if let Some((makespan, _)) = self.best.get(&state) {
            return *makespan;
        }
        self.is_out_of_time |= self.deadline.has_passed();
        if self.is_out_of_time {
            return f64::INFINITY;
        }
        let lowest = sequences & sequences.wrapping_neg();
        let mut best = (f64::INFINITY, None);
        for strategy in self.strategies.clone() {
            for taken in self.ways(strategy.degree().get(), left) {
                for part in subsets(sequences).filter(|part| part & lowest != 0) {
                    let time = self.group_time(part, strategy, &taken);
                    if time >= best.0 {
                        continue;
                    }
                    let rest = left.iter().zip(&taken).map(|(left, taken)| left - taken);
                    let rest: Vec<u8> = rest.collect();
                    let makespan = time.max(self.makespan(sequences & !part, &rest));
                    if makespan < best.0 {
                        let choice = Choice {
                            sequences: part,
                            strategy,
                            taken: taken.clone(),
                        };
                        best = (makespan, Some(choice));
                    }
                }
            }
        }
        let makespan = best.0;
        self.best.insert(state, best);
        makespan
    }

    /// How many devices of each kind groups of `degree` can have.
    fn ways(&self, degree: u32, left: &[u8]) -> Vec<Vec<u8>> {
        let aligned = self.problem.rules.aligned_powers_of_two;
        let mut ways = Vec::new();
        if self.in_runs {
            let degree = degree as usize;
            for first in (0..(left.len() + 1).saturating_sub(degree)).step_by(degree) {
                if left[first..first + degree].iter().all(|&left| left == 1) {
                    let mut taken = vec![0; left.len()];
                    taken[first..first + degree].fill(1);
                    ways.push(taken);
                }
            }
        } else {
            take(left, 0, degree, &mut vec![0; left.len()], &mut ways);
            if aligned {
                // Equal nodes: an aligned group is within one, or has all of each.
                let per_node = self.kinds[0].ranks.len() as u32;
                ways.retain(|taken| {
                    let mut taken = taken.iter().filter(|&&count| count > 0);
                    taken.all(|&count| u32::from(count) == degree.min(per_node))
                });
            }
        }
        ways
    }

    fn group_time(&self, part: u32, strategy: Strategy, taken: &[u8]) -> f64 {
        let used = self
            .kinds
            .iter()
            .zip(taken)
            .filter(|&(_, &count)| count > 0);
        let (mut budget, mut speed, mut nodes) = (Budget::MOST, f64::INFINITY, Vec::new());
        for (kind, _) in used {
            budget = budget.least(kind.budget);
            speed = speed.min(kind.speed);
            nodes.push(kind.node);
        }
        nodes.dedup();
        let span = if nodes.len() > 1 {
            Span::ManyNodes
        } else {
            Span::OneNode
        };
        let shape = GroupShape { strategy, span };
        let (mut time, mut load) = (Seconds::ZERO, Load::default());
        let (rules, cost) = (&self.problem.rules, self.problem.cost);
        for (index, &seq_len) in self.problem.batch.seq_lens().iter().enumerate() {
            if part >> index & 1 == 1 {
                time += cost.sequence_time(shape, seq_len);
                let joint = self.joint_memory;
                load = load
                    + Load {
                        memory: joint.load(cost, strategy, seq_len).0,
                        host: joint.host_load(cost, strategy, seq_len).0,
                        tokens: seq_len.0,
                        sequences: 1,
                    };
            }
        }
        let fits = (budget.holds(load) || !rules.limits_memory())
            && load.tokens <= rules.most_tokens(strategy.degree()).0
            && load.sequences <= rules.most_sequences();
        if fits {
            time.get() / speed
        } else {
            f64::INFINITY
        }
    }

    fn micro_batch(&self, mut sequences: u32, mut left: Vec<u8>) -> MicroBatch {
        let mut groups = Vec::new();
        while let Some((_, Some(choice))) = self.best.get(&(sequences, left.clone())) {
            let mut ranks = Vec::new();
            for ((kind, left), &taken) in self.kinds.iter().zip(&mut left).zip(&choice.taken) {
                ranks.extend(&kind.ranks[usize::from(*left - taken)..usize::from(*left)]);
                *left -= taken;
            }
            ranks.sort_unstable();
            let members = (0..32).filter(|index| choice.sequences >> index & 1 == 1);
            groups.push(Group {
                strategy: choice.strategy,
                ranks,
                sequences: members.map(SequenceIndex).collect(),
            });
            sequences &= !choice.sequences;
        }
        if self.problem.rules.aligned_powers_of_two && !self.in_runs {
            lay_out_in_a_row(&mut groups);
        }
        MicroBatch { groups }
    }
}

/// Adds every way to take `missing` devices of the kinds from `kind` on.
fn take(left: &[u8], kind: usize, missing: u32, taken: &mut Vec<u8>, ways: &mut Vec<Vec<u8>>) {
    if missing == 0 {
        ways.push(taken.clone());
    } else if kind < left.len() {
        for count in 0..=left[kind].min(missing.min(255) as u8) {
            taken[kind] = count;
            take(left, kind + 1, missing - u32::from(count), taken, ways);
        }
        taken[kind] = 0;
    }
}

/// Gives groups of equal devices the ranks from 0 on, the largest first.
fn lay_out_in_a_row(groups: &mut [Group]) {
    groups.sort_by_key(|group| Reverse(group.degree()));
    let mut next = 0;
    for group in groups {
        let degree = group.degree().get();
        group.ranks = (next..next + degree).map(Rank).collect();
        next += degree;
    }
}

/// The subsets of a set of bits, the set itself first, without the empty one.
fn subsets(set: u32) -> impl Iterator<Item = u32> {
    let mut next = set;
    std::iter::from_fn(move || {
        let subset = next;
        next = subset.wrapping_sub(1) & set;
        (subset != 0).then_some(subset)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lengthwise_core::{
        Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
        StrategySpace,
    };
    use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};

    use super::*;
    use crate::Adaptive;
    use crate::common::Case;

    /// Sequences of different lengths, on one node of these devices.
    fn case(num_sequences: u64, devices: Vec<Device>, degrees: &[u32]) -> Case {
        let costs = KindCosts {
            linear_s_per_token: 1e-6,
            memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
            ..KindCosts::default()
        };
        let kind = StrategyKind::ulysses(Activations::Recompute);
        let degrees: Vec<Degree> = degrees.iter().map(|&d| Degree::new(d).unwrap()).collect();
        Case {
            batch: GlobalBatch::from_lens((1..=num_sequences).map(|index| 10 * index)).unwrap(),
            cluster: Cluster::from_nodes(vec![devices]).unwrap(),
            cost: FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap(),
            space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
            rules: PlanRules::default(),
        }
    }

    fn equal(num: usize) -> Vec<Device> {
        vec![Device::new(Bytes(10_000), Speed::NOMINAL); num]
    }

    fn different(num: usize) -> Vec<Device> {
        let speed = |index: usize| Speed::new(1.0 + index as f64 / 10.0).unwrap();
        (0..num)
            .map(|index| Device::new(Bytes(10_000), speed(index)))
            .collect()
    }

    #[test]
    fn only_batches_and_clusters_up_to_a_size_are_enumerated() {
        let planned = |num_sequences, num_devices| {
            let case = case(num_sequences, equal(num_devices), &[1]);
            Exhaustive
                .plan(case.problem())
                .map(|planned| planned.report.stop_reason)
        };
        assert_eq!(planned(9, 1).unwrap(), StopReason::Optimal);
        assert_eq!(planned(1, 16).unwrap(), StopReason::Optimal);
        for (num_sequences, num_devices) in [(10, 1), (11, 1), (1, 17), (1, 18), (10, 17)] {
            let error = planned(num_sequences, num_devices).unwrap_err();
            let is_too_large = matches!(error, PlanError::TooLargeToEnumerate { .. });
            assert!(is_too_large, "{error}");
        }
    }

    #[test]
    fn the_adaptive_planner_enumerates_what_takes_no_longer_than_its_search() {
        let is_enumerated = |case: Case| {
            let planned = Adaptive::default().plan(case.problem()).unwrap();
            assert_eq!(
                is_tiny(case.problem()),
                planned.report.tried.num_drafts == 0
            );
            is_tiny(case.problem())
        };
        let powers = [1, 2, 4, 8];
        assert!(is_enumerated(case(8, equal(8), &powers)));
        assert!(!is_enumerated(case(9, equal(8), &powers)));
        assert!(!is_enumerated(case(1, equal(9), &powers)));
        // Each way to choose among different devices is looked at: 256 states of them, and 27 ways to split the batch.
        assert!(is_enumerated(case(3, different(8), &powers)));
        assert!(!is_enumerated(case(5, different(8), &powers)));
        assert!(!is_enumerated(case(8, different(6), &powers)));
        assert!(is_enumerated(case(8, different(3), &powers)));
    }

    #[test]
    fn every_subset_but_the_empty_one_comes_once() {
        for set in [0b1u32, 0b1011, 0b11111, 0b1000_0001] {
            let all: Vec<u32> = subsets(set).collect();
            assert_eq!(all[0], set);
            assert_eq!(all.len(), (1 << set.count_ones()) - 1);
            assert!(all.iter().all(|subset| subset & !set == 0 && *subset != 0));
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
        assert_eq!(subsets(0).count(), 0);
    }

    #[test]
    fn every_way_to_take_devices_of_the_kinds_comes_once() {
        for (left, missing) in [
            (vec![2u8, 3, 1], 3),
            (vec![4], 4),
            (vec![1, 1], 3),
            (vec![2, 2], 1),
        ] {
            let mut ways = Vec::new();
            take(&left, 0, missing, &mut vec![0; left.len()], &mut ways);
            let mut expected = vec![Vec::new()];
            for &most in &left {
                let longer = expected.iter().flat_map(|way: &Vec<u8>| {
                    (0..=most).map(move |count| [way.as_slice(), &[count]].concat())
                });
                expected = longer.collect();
            }
            expected
                .retain(|way| way.iter().map(|&count| u32::from(count)).sum::<u32>() == missing);
            ways.sort();
            assert_eq!(ways, expected);
        }
    }
}
