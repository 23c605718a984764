//! The budgets that groups of each degree can have.

use std::cmp::Reverse;

use lengthwise_cost::Span;

use crate::Problem;
use crate::budget::{Budget, budgets_by_node};

/// For each span and degree the budgets that all devices of a group can have, those that no other covers; none where there are
/// no such groups.
pub(crate) struct GroupBudgets {
    one_node: Vec<Vec<Budget>>,
    many_nodes: Vec<Vec<Budget>>,
}

impl GroupBudgets {
    /// Of groups on any devices.
    pub(crate) fn of_any(problem: Problem<'_>) -> Self {
        let mut group_budgets = GroupBudgets::none(problem);
        let mut all = Vec::new();
        for mut budgets in budgets_by_node(problem) {
            budgets.sort_unstable_by(|a, b| b.cmp(a));
            // As devices are handed out: those with less memory last, which count no more of their hosts than the others.
            let mut weakest = Budget::MOST;
            for (index, budget) in budgets.into_iter().enumerate() {
                weakest = weakest.least(budget);
                raise(&mut group_budgets.one_node[index + 1], weakest);
                all.push(weakest);
            }
        }
        if problem.cluster.num_nodes() > 1 {
            let mut least_memories: Vec<u64> = all.iter().map(|budget| budget.memory).collect();
            least_memories.sort_unstable();
            least_memories.dedup();
            if all.iter().all(|budget| budget.host == all[0].host) {
                least_memories.truncate(1);
            }
            for least in least_memories {
                let mut with_memory = all.clone();
                with_memory.retain(|budget| budget.memory >= least);
                with_memory.sort_unstable_by_key(|budget| Reverse((budget.host, budget.memory)));
                let mut weakest = Budget::MOST;
                for (index, budget) in with_memory.into_iter().enumerate() {
                    weakest = weakest.least(budget);
                    if index > 0 {
                        raise(&mut group_budgets.many_nodes[index + 1], weakest);
                    }
                }
            }
        }
        group_budgets
    }

    /// Of groups that are runs of ranks that begin at multiples of their degrees, which are powers of two.
    pub(crate) fn of_runs(problem: Problem<'_>) -> Self {
        let mut group_budgets = GroupBudgets::none(problem);
        let nodes = budgets_by_node(problem).into_iter().enumerate();
        let ranks: Vec<(usize, Budget)> = nodes
            .flat_map(|(node, budgets)| budgets.into_iter().map(move |budget| (node, budget)))
            .collect();
        for order in 0..=ranks.len().ilog2() {
            let degree = 1 << order;
            for run in ranks.chunks_exact(degree) {
                let budgets = run.iter().map(|&(_, budget)| budget);
                let span = if run[0].0 == run[degree - 1].0 {
                    &mut group_budgets.one_node
                } else {
                    &mut group_budgets.many_nodes
                };
                raise(&mut span[degree], budgets.fold(Budget::MOST, Budget::least));
            }
        }
        group_budgets
    }

    fn none(problem: Problem<'_>) -> Self {
        let degrees = problem.cluster.num_devices() as usize + 1;
        GroupBudgets {
            one_node: vec![Vec::new(); degrees],
            many_nodes: vec![Vec::new(); degrees],
        }
    }

    /// The budgets that all devices of a group can have.
    pub(crate) fn best_budgets(&self, degree: u32, span: Span) -> &[Budget] {
        let of_span = match span {
            Span::OneNode => &self.one_node,
            Span::ManyNodes => &self.many_nodes,
        };
        of_span.get(degree as usize).map_or(&[], Vec::as_slice)
    }
}

/// Adds a budget that no other covers, in place of those that it covers.
fn raise(best: &mut Vec<Budget>, budget: Budget) {
    if !best.iter().any(|other| other.covers(budget)) {
        best.retain(|&other| !budget.covers(other));
        best.push(budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Size, cases, cases_with_hosts, sample};

    /// The node and the budget of each rank.
    fn ranks(problem: Problem<'_>) -> Vec<(usize, Budget)> {
        let nodes = budgets_by_node(problem).into_iter().enumerate();
        let ranks =
            nodes.flat_map(|(node, budgets)| budgets.into_iter().map(move |one| (node, one)));
        ranks.collect()
    }

    /// The budgets that all ranks of one of these sets have, if they are so many.
    fn best(sets: impl Iterator<Item = Vec<(usize, Budget)>>, degree: u32) -> Vec<Budget> {
        let of_degree = sets.filter(|set| set.len() == degree as usize);
        let least = of_degree.filter_map(|set| {
            set.into_iter()
                .map(|(_, budget)| budget)
                .reduce(Budget::least)
        });
        let least: Vec<Budget> = least.collect();
        let outdone = |one: &Budget| least.iter().any(|other| other != one && other.covers(*one));
        let mut best: Vec<Budget> = least.iter().filter(|one| !outdone(one)).copied().collect();
        best.sort_unstable();
        best.dedup();
        best
    }

    fn sorted(budgets: &[Budget]) -> Vec<Budget> {
        let mut budgets = budgets.to_vec();
        budgets.sort_unstable();
        budgets
    }

    fn are_of_one_node(ranks: &[(usize, Budget)]) -> bool {
        ranks.iter().all(|&(node, _)| node == ranks[0].0)
    }

    #[test]
    fn a_group_can_have_the_best_budgets_of_all_sets_of_ranks() {
        let size = Size {
            num_nodes: 3,
            devices_per_node: 3,
            num_sequences: 1,
            seq_len: 1000,
        };
        let mut num_with_several = 0;
        for case in sample(cases(size), 180, 60).chain(sample(cases_with_hosts(size), 181, 120)) {
            let problem = case.problem();
            let all = ranks(problem);
            // Of a node whose devices with more memory have less of its host, less is made.
            let is_odd = |a: &(usize, Budget), b: &(usize, Budget)| {
                a.0 == b.0 && a.1.memory < b.1.memory && a.1.host > b.1.host
            };
            if all.iter().any(|a| all.iter().any(|b| is_odd(a, b))) {
                continue;
            }
            let sets = || {
                (1u32..1 << all.len()).map(|set| {
                    let inside = (0..all.len()).filter(move |index| set >> index & 1 == 1);
                    inside.map(|index| all[index]).collect::<Vec<_>>()
                })
            };
            let of_any = GroupBudgets::of_any(problem);
            let of_runs = GroupBudgets::of_runs(problem);
            for degree in 1..=problem.cluster.num_devices() {
                for span in [Span::OneNode, Span::ManyNodes] {
                    let is_of_span = |ranks: &Vec<(usize, Budget)>| {
                        are_of_one_node(ranks) == (span == Span::OneNode)
                    };
                    // Where there are several nodes, a group that may be on many has any devices to choose from.
                    let is_possible =
                        sets().any(|set| set.len() == degree as usize && is_of_span(&set));
                    let any = sets().filter(|set| span == Span::ManyNodes || are_of_one_node(set));
                    let any = if is_possible {
                        best(any, degree)
                    } else {
                        Vec::new()
                    };
                    num_with_several += usize::from(any.len() > 1);
                    assert_eq!(sorted(of_any.best_budgets(degree, span)), any);
                    let runs = all.chunks_exact(degree as usize).map(<[_]>::to_vec);
                    let runs = best(runs.filter(is_of_span), degree);
                    let runs = if degree.is_power_of_two() {
                        runs
                    } else {
                        Vec::new()
                    };
                    assert_eq!(sorted(of_runs.best_budgets(degree, span)), runs);
                }
            }
            let too_many = problem.cluster.num_devices() + 1;
            assert_eq!(of_any.best_budgets(too_many, Span::OneNode), []);
        }
        assert!(num_with_several > 20, "{num_with_several}");
    }
}
