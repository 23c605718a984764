//! The budgets that groups of each degree can have.

use lengthwise_cost::Span;

use crate::Problem;
use crate::instance::budget_of;

/// For each span and degree the largest budget that all devices of a group can have, as far as there are such groups.
pub(crate) struct GroupBudgets {
    one_node: Vec<Option<u64>>,
    many_nodes: Vec<Option<u64>>,
}

impl GroupBudgets {
    /// Of groups on any devices.
    pub(crate) fn of_any(problem: Problem<'_>) -> Self {
        let mut group_budgets = GroupBudgets::none(problem);
        let mut all = Vec::new();
        for mut budgets in budgets_by_node(problem) {
            budgets.sort_unstable_by(|a, b| b.cmp(a));
            for (weakest, &budget) in budgets.iter().enumerate() {
                raise(&mut group_budgets.one_node[weakest + 1], budget);
            }
            all.extend(budgets);
        }
        if problem.cluster.num_nodes() > 1 {
            all.sort_unstable_by(|a, b| b.cmp(a));
            for (weakest, &budget) in all.iter().enumerate().skip(1) {
                raise(&mut group_budgets.many_nodes[weakest + 1], budget);
            }
        }
        group_budgets
    }

    /// Of groups that are runs of ranks that begin at multiples of their degrees, which are powers of two.
    pub(crate) fn of_runs(problem: Problem<'_>) -> Self {
        let mut group_budgets = GroupBudgets::none(problem);
        let nodes = budgets_by_node(problem).into_iter().enumerate();
        let ranks: Vec<(usize, u64)> = nodes
            .flat_map(|(node, budgets)| budgets.into_iter().map(move |budget| (node, budget)))
            .collect();
        for order in 0..=ranks.len().ilog2() {
            let degree = 1 << order;
            for run in ranks.chunks_exact(degree) {
                let budget = run.iter().map(|&(_, budget)| budget).min().unwrap_or(0);
                let span = if run[0].0 == run[degree - 1].0 {
                    &mut group_budgets.one_node
                } else {
                    &mut group_budgets.many_nodes
                };
                raise(&mut span[degree], budget);
            }
        }
        group_budgets
    }

    fn none(problem: Problem<'_>) -> Self {
        let degrees = problem.cluster.num_devices() as usize + 1;
        GroupBudgets {
            one_node: vec![None; degrees],
            many_nodes: vec![None; degrees],
        }
    }

    /// The largest budget that all devices of a group can have; `None` where there are no such groups.
    pub(crate) fn best_budget(&self, degree: u32, span: Span) -> Option<u64> {
        let of_span = match span {
            Span::OneNode => &self.one_node,
            Span::ManyNodes => &self.many_nodes,
        };
        of_span.get(degree as usize).copied().flatten()
    }
}

fn raise(best: &mut Option<u64>, budget: u64) {
    *best = Some(best.map_or(budget, |best| best.max(budget)));
}

fn budgets_by_node(problem: Problem<'_>) -> Vec<Vec<u64>> {
    let cluster = problem.cluster;
    let budgets = |node| {
        let ranks = cluster.node_ranks(node).unwrap_or(0..0);
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let budgets = devices.iter().map(|device| budget_of(problem, device));
        budgets.collect()
    };
    (0..cluster.num_nodes()).map(budgets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Size, cases, sample};

    /// The node and the budget of each rank.
    fn ranks(problem: Problem<'_>) -> Vec<(usize, u64)> {
        let devices = problem.cluster.devices().iter();
        let budgets = devices.map(|device| budget_of(problem, device));
        let ranks = problem.cluster.ranks();
        let nodes = ranks.map(|rank| problem.cluster.node_of(rank).unwrap());
        nodes.zip(budgets).collect()
    }

    /// The largest budget that all ranks of one of these sets have, if they are so many.
    fn best(sets: impl Iterator<Item = Vec<(usize, u64)>>, degree: u32) -> Option<u64> {
        let of_degree = sets.filter(|set| set.len() == degree as usize);
        let least = of_degree.filter_map(|set| set.into_iter().map(|(_, budget)| budget).min());
        least.max()
    }

    fn are_of_one_node(ranks: &[(usize, u64)]) -> bool {
        ranks.iter().all(|&(node, _)| node == ranks[0].0)
    }

    #[test]
    fn a_group_can_have_the_best_budget_of_all_sets_of_ranks() {
        let size = Size {
            num_nodes: 3,
            devices_per_node: 3,
            num_sequences: 1,
            seq_len: 1000,
        };
        for case in sample(cases(size), 180, 60) {
            let problem = case.problem();
            let all = ranks(problem);
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
                    let is_of_span = |ranks: &Vec<(usize, u64)>| {
                        are_of_one_node(ranks) == (span == Span::OneNode)
                    };
                    // Where there are several nodes, a group that may be on many has any devices to choose from.
                    let is_possible =
                        sets().any(|set| set.len() == degree as usize && is_of_span(&set));
                    let any = sets().filter(|set| span == Span::ManyNodes || are_of_one_node(set));
                    let any = best(any, degree).filter(|_| is_possible);
                    assert_eq!(of_any.best_budget(degree, span), any);
                    let runs = all.chunks_exact(degree as usize).map(<[_]>::to_vec);
                    let runs = best(runs.filter(is_of_span), degree);
                    let runs = runs.filter(|_| degree.is_power_of_two());
                    assert_eq!(of_runs.best_budget(degree, span), runs);
                }
            }
            assert_eq!(
                of_any.best_budget(problem.cluster.num_devices() + 1, Span::OneNode),
                None
            );
        }
    }
}
