//! The best step there is, for a dozen sequences on nodes of equal devices without rules: more than
//! [`Exhaustive`](lengthwise_plan::Exhaustive) tries, by code of its own.

use std::collections::BTreeMap;

use lengthwise_core::{MemoryModel, Strategy};
use lengthwise_cost::{CostModel, GroupShape, Span};

use super::Case;

/// Free devices of every node, most first: nodes are alike.
type Free = Vec<u32>;

/// Whether [`best_step`] can be asked.
pub fn has_equal_devices(case: &Case) -> bool {
    let devices = case.cluster.devices();
    let sizes = node_sizes(case);
    devices.iter().all(|device| *device == devices[0]) && sizes.iter().all(|&size| size == sizes[0])
}

/// The time of the best plan, or `None` where some sequence fits no group.
pub fn best_step(case: &Case) -> Option<f64> {
    assert!(has_equal_devices(case), "devices differ: {case:?}");
    let makespans = makespans(case);
    let overhead = case.cost.micro_batch_overhead().get();
    let mut steps = vec![0.0];
    for set in 1..makespans.len() {
        let with_first = parts(set).map(|part| overhead + makespans[part] + steps[set & !part]);
        let best = with_first.fold(f64::INFINITY, f64::min);
        steps.push(best);
    }
    steps.pop().filter(|best| best.is_finite())
}

fn node_sizes(case: &Case) -> Free {
    let nodes = case.cluster.ranks();
    let nodes = nodes.filter_map(|rank| case.cluster.node_of(rank));
    let mut sizes = BTreeMap::new();
    for node in nodes {
        *sizes.entry(node).or_insert(0) += 1;
    }
    sizes.into_values().collect()
}

/// The shortest makespan of every set of sequences on the whole cluster, without overhead.
fn makespans(case: &Case) -> Vec<f64> {
    let strategies: Vec<(Strategy, [Vec<f64>; 2])> = case
        .space
        .strategies()
        .iter()
        .map(|&strategy| {
            (
                strategy,
                SPANS.map(|span| group_times(case, strategy, span)),
            )
        })
        .collect();
    let states = states(node_sizes(case));
    let position: &BTreeMap<&Free, usize> = &states.iter().zip(0..).collect();
    // What is left, and what the group takes by the set that it holds, for every group that can be cut from a state.
    let groups: Vec<Vec<(usize, &[f64])>> = states
        .iter()
        .map(|state| {
            let groups = strategies.iter().flat_map(|(strategy, times)| {
                let cuts = cuts(state, strategy.degree().get()).into_iter();
                cuts.map(move |(left, span)| (position[&left], times[span].as_slice()))
            });
            groups.collect()
        })
        .collect();
    let num_sets = 1 << case.batch.num_sequences();
    let mut makespans = vec![vec![f64::INFINITY; num_sets]; states.len()];
    for makespan in &mut makespans {
        makespan[0] = 0.0;
    }
    for set in 1..num_sets {
        for (state, groups) in groups.iter().enumerate() {
            let mut best = f64::INFINITY;
            for &(left, times) in groups {
                for part in parts(set) {
                    best = best.min(times[part].max(makespans[left][set & !part]));
                }
            }
            makespans[state][set] = best;
        }
    }
    makespans.swap_remove(0)
}

const SPANS: [Span; 2] = [Span::OneNode, Span::ManyNodes];

/// The time of a group by the set of sequences that it holds; infinite for more than memory holds.
fn group_times(case: &Case, strategy: Strategy, span: Span) -> Vec<f64> {
    let budget = case.cost.budget(&case.cluster.devices()[0]);
    let speed = case.cluster.devices()[0].speed().get();
    let shape = GroupShape { strategy, span };
    let mut sums = vec![(0.0, 0u64)];
    for &seq_len in case.batch.seq_lens() {
        let time = case.cost.sequence_time(shape, seq_len).get() / speed;
        let memory = case.cost.sequence_memory(strategy, seq_len).0;
        let with = sums.iter().map(|(sum, held)| (sum + time, held + memory));
        let with: Vec<(f64, u64)> = with.collect();
        sums.extend(with);
    }
    let fitting = sums.into_iter().map(|(time, memory)| {
        if memory <= budget.0 {
            time
        } else {
            f64::INFINITY
        }
    });
    fitting.collect()
}

/// Every state that groups can leave, the full one first.
fn states(full: Free) -> Vec<Free> {
    let mut states = vec![Free::new()];
    for &size in &full {
        let longer = states.iter().flat_map(|state| {
            let most = state.last().copied().unwrap_or(size);
            (0..=most)
                .rev()
                .map(move |free| [state.as_slice(), &[free]].concat())
        });
        states = longer.collect();
    }
    states
}

/// What a group of `degree` devices can leave, and the position of its span in [`SPANS`].
fn cuts(state: &[u32], degree: u32) -> Vec<(Free, usize)> {
    let mut cuts = vec![(Free::new(), 0, degree)];
    for &free in state {
        let next = cuts.iter().flat_map(|(left, num_nodes, missing)| {
            (0..=free.min(*missing)).map(move |taken| {
                let left = [left.as_slice(), &[free - taken]].concat();
                (left, num_nodes + usize::from(taken > 0), missing - taken)
            })
        });
        cuts = next.collect();
    }
    let complete = cuts.into_iter().filter(|&(_, _, missing)| missing == 0);
    let mut cuts: Vec<(Free, usize)> = complete
        .map(|(mut left, num_nodes, _)| {
            left.sort_unstable_by(|a, b| b.cmp(a));
            (left, usize::from(num_nodes > 1))
        })
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The parts of a set of bits that hold its lowest one.
fn parts(set: usize) -> impl Iterator<Item = usize> {
    let lowest = set & set.wrapping_neg();
    let rest = set & !lowest;
    let mut next = Some(rest);
    std::iter::from_fn(move || {
        let part = next?;
        next = (part != 0).then(|| (part - 1) & rest);
        Some(part | lowest)
    })
}
