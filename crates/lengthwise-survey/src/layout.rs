//! Where the groups of a measured run are.

use std::collections::BTreeMap;

use lengthwise_core::{Activations, Cluster, Degree, Exchange, Rank, Strategy, StrategySpace};
use lengthwise_cost::{GroupShape, Span};

/// No more degrees than this are measured on groups that cross nodes.
const MOST_CROSSING: usize = 8;

/// Every degree is measured where there are no more than this.
const MOST_DEGREES: usize = 16;

/// Equal groups that work at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The work of each.
    pub strategy: Strategy,
    /// Where they are.
    pub span: Span,
    /// Their ranks.
    pub groups: Vec<Vec<Rank>>,
}

impl Layout {
    /// The shape of its groups.
    pub fn shape(&self) -> GroupShape {
        GroupShape {
            strategy: self.strategy,
            span: self.span,
        }
    }

    /// As many groups of this degree as there is room for: inside nodes if one of them is large enough, else each from the
    /// beginning of a node on, so that no two share a node.
    pub fn of(strategy: Strategy, cluster: &Cluster) -> Self {
        let size = strategy.degree().as_usize();
        let nodes: Vec<Vec<Rank>> = (0..cluster.num_nodes())
            .filter_map(|node| cluster.node_ranks(node))
            .map(|ranks| ranks.map(Rank).collect())
            .collect();
        let inside = nodes.iter().flat_map(|node| node.chunks_exact(size));
        let mut groups: Vec<Vec<Rank>> = inside.map(<[Rank]>::to_vec).collect();
        let span = if groups.is_empty() {
            let mut ranks: Vec<Rank> = Vec::new();
            for node in &nodes {
                ranks.extend(node);
                if ranks.len() >= size {
                    groups.push(ranks[..size].to_vec());
                    ranks.clear();
                }
            }
            Span::ManyNodes
        } else {
            Span::OneNode
        };
        Layout {
            strategy,
            span,
            groups,
        }
    }

    /// Two ranks on different nodes: the smallest group that crosses; `None` where there is one node.
    fn pair_across(strategy: Strategy, cluster: &Cluster) -> Option<Self> {
        let first = |node| Some(Rank(cluster.node_ranks(node)?.start));
        Some(Layout {
            strategy,
            span: Span::ManyNodes,
            groups: vec![vec![first(0)?, first(1)?]],
        })
    }

    /// The layouts that the costs of `space` are measured on, those of ranks on their own first: one with each choice for
    /// activations, and each way to exchange with the first of them, which `activations` lists. What is exchanged with the
    /// others follows.
    ///
    /// With `every`, those are all degrees of each way where they are not many.
    pub fn measured(
        space: &StrategySpace,
        activations: &[Activations],
        cluster: &Cluster,
        every: bool,
    ) -> Vec<Self> {
        let alone = activations.iter();
        let alone = alone.map(|&of| Layout::of(Strategy::ulysses(Degree::ONE, of), cluster));
        let mut ways: BTreeMap<Exchange, Vec<Strategy>> = BTreeMap::new();
        for &strategy in space.strategies() {
            let is_first = activations.first() == Some(&strategy.activations());
            if is_first && strategy.degree() > Degree::ONE {
                let way = ways.entry(strategy.kind().exchange).or_default();
                way.push(strategy);
            }
        }
        let exchanging = ways.values().flat_map(|strategies| {
            if every && strategies.len() < MOST_DEGREES {
                Self::every(strategies, cluster)
            } else {
                Self::exchanging(strategies, cluster)
            }
        });
        alone.chain(exchanging).collect()
    }

    /// All layouts of `strategies`, which exchange the same way in increasing order.
    fn every(strategies: &[Strategy], cluster: &Cluster) -> Vec<Self> {
        let layouts = strategies.iter();
        let layouts = layouts.map(|&strategy| Layout::of(strategy, cluster));
        layouts.chain(Self::pair_of(strategies, cluster)).collect()
    }

    fn pair_of(strategies: &[Strategy], cluster: &Cluster) -> Option<Self> {
        let mut strategies = strategies.iter();
        let pair = strategies.find(|strategy| strategy.degree().get() == 2)?;
        Layout::pair_across(*pair, cluster)
    }

    /// A selection of them: inside nodes powers of two, since bandwidth changes little in between; across nodes, where it
    /// depends on how a group is divided, every degree, or some of equal distances.
    fn exchanging(strategies: &[Strategy], cluster: &Cluster) -> Vec<Self> {
        let layouts = strategies.iter();
        let layouts = layouts.map(|&strategy| Layout::of(strategy, cluster));
        let (mut inside, across): (Vec<Layout>, Vec<Layout>) =
            layouts.partition(|layout| layout.span == Span::OneNode);
        let largest = inside.last().map(|layout| layout.strategy);
        let smallest = inside.first().map(|layout| layout.strategy);
        inside.retain(|layout| {
            let strategy = Some(layout.strategy);
            let degree = layout.strategy.degree().get();
            degree.is_power_of_two() || strategy == largest || strategy == smallest
        });
        let pair = Self::pair_of(strategies, cluster);
        let num_across = across.len();
        let is_selected = |index: usize| {
            let last = num_across.saturating_sub(1).max(1);
            num_across <= MOST_CROSSING
                || (0..MOST_CROSSING).any(|at| at * last / (MOST_CROSSING - 1) == index)
        };
        let across = across.into_iter().enumerate();
        let across = across.filter(|(index, _)| is_selected(*index));
        let across = across.map(|(_, layout)| layout);
        inside.into_iter().chain(pair).chain(across).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Speed};

    fn cluster(num_nodes: u32, devices_per_node: u32) -> Cluster {
        let device = Device::new(Bytes(1), Speed::NOMINAL);
        Cluster::uniform(num_nodes, devices_per_node, device).unwrap()
    }

    fn ulysses(degree: u32) -> Strategy {
        Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute)
    }

    /// How a space of these degrees is measured, without ranks on their own.
    fn exchanging(degrees: std::ops::RangeInclusive<u32>, cluster: &Cluster) -> Vec<Layout> {
        let space = StrategySpace::new(degrees.map(ulysses)).unwrap();
        let mut layouts = Layout::measured(&space, &[Activations::Recompute], cluster, false);
        assert_eq!(layouts.remove(0).strategy, ulysses(1));
        layouts
    }

    fn groups(layout: &Layout) -> Vec<Vec<u32>> {
        let groups = layout.groups.iter();
        groups
            .map(|group| group.iter().map(|rank| rank.0).collect())
            .collect()
    }

    #[test]
    fn groups_stay_inside_nodes_that_have_room_for_them() {
        let layout = Layout::of(ulysses(3), &cluster(2, 4));
        assert_eq!(layout.span, Span::OneNode);
        assert_eq!(groups(&layout), [[0, 1, 2], [4, 5, 6]]);
    }

    #[test]
    fn groups_that_cross_nodes_share_none() {
        let layout = Layout::of(ulysses(3), &cluster(5, 2));
        assert_eq!(layout.span, Span::ManyNodes);
        assert_eq!(groups(&layout), [[0, 1, 2], [4, 5, 6]]);
        assert!(Layout::of(ulysses(9), &cluster(2, 4)).groups.is_empty());
    }

    #[test]
    fn both_spans_are_measured() {
        let layouts = exchanging(1..=8, &cluster(2, 4));
        let shapes: Vec<_> = layouts
            .iter()
            .map(|layout| (layout.strategy.degree().get(), layout.span))
            .collect();
        let inside = [(2, Span::OneNode), (4, Span::OneNode)];
        let across = [2, 5, 6, 7, 8].map(|degree| (degree, Span::ManyNodes));
        assert_eq!(shapes, [&inside[..], &across].concat());
        assert_eq!(groups(&layouts[2]), [[0, 4]]);
    }

    #[test]
    fn of_many_degrees_across_nodes_some_are_measured() {
        let layouts = exchanging(1..=64, &cluster(8, 8));
        let across: Vec<u32> = layouts
            .iter()
            .filter(|layout| layout.span == Span::ManyNodes)
            .map(|layout| layout.strategy.degree().get())
            .collect();
        assert_eq!(across, [2, 9, 16, 24, 32, 40, 48, 56, 64]);
    }

    #[test]
    fn one_node_has_the_powers_of_two_and_the_largest() {
        let layouts = exchanging(1..=6, &cluster(1, 8));
        let degrees: Vec<u32> = layouts
            .iter()
            .map(|layout| layout.strategy.degree().get())
            .collect();
        assert_eq!(degrees, [2, 4, 6]);
    }

    #[test]
    fn every_way_to_exchange_is_measured_with_one_choice_and_every_choice_with_ranks_on_their_own()
    {
        let choices = [Activations::Recompute, Activations::Host];
        let parts = [(1, 1), (2, 1), (4, 1), (1, 2), (1, 3), (1, 4), (2, 2)];
        let strategies = choices.into_iter().flat_map(|activations| {
            parts.map(|(ulysses, ring)| {
                let degree = |degree| Degree::new(degree).unwrap();
                Strategy::new(degree(ulysses), degree(ring), activations).unwrap()
            })
        });
        let space = StrategySpace::new(strategies).unwrap();
        let names = |every| -> Vec<String> {
            let layouts = Layout::measured(&space, &choices, &cluster(1, 4), every);
            let names = layouts.iter().map(|layout| layout.strategy.to_string());
            names.collect()
        };
        let alone = ["1 recompute", "1 host", "2 recompute", "4 recompute"];
        let rings = ["1x2 recompute", "1x4 recompute", "2x2 recompute"];
        assert_eq!(names(false), [&alone[..], &rings].concat());
        assert_eq!(names(true).len(), 8);
    }
}
