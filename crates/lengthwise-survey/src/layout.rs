//! Where the groups of a measured run are.

use lengthwise_core::{Cluster, Degree, Rank};
use lengthwise_cost::Span;

/// No more degrees than this are measured on groups that cross nodes.
const MOST_CROSSING: usize = 8;

/// Every degree is measured where there are no more than this.
const MOST_DEGREES: usize = 16;

/// Equal groups that work at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many ranks each has.
    pub degree: Degree,
    /// Where they are.
    pub span: Span,
    /// Their ranks.
    pub groups: Vec<Vec<Rank>>,
}

impl Layout {
    /// As many groups of `degree` as there is room for: inside nodes if one of them is large enough, else each from the
    /// beginning of a node on, so that no two share a node.
    pub fn of(degree: Degree, cluster: &Cluster) -> Self {
        let size = degree.as_usize();
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
            degree,
            span,
            groups,
        }
    }

    /// Two ranks on different nodes: the smallest group that crosses; `None` where there is one node.
    pub fn pair_across(cluster: &Cluster) -> Option<Self> {
        let first = |node| Some(Rank(cluster.node_ranks(node)?.start));
        Some(Layout {
            degree: Degree::new(2).ok()?,
            span: Span::ManyNodes,
            groups: vec![vec![first(0)?, first(1)?]],
        })
    }

    /// All layouts with an exchange, of `degrees` in increasing order; of many degrees those of [`Layout::exchanging`].
    pub fn every(degrees: &[Degree], cluster: &Cluster) -> Vec<Self> {
        if degrees.len() > MOST_DEGREES {
            return Self::exchanging(degrees, cluster);
        }
        let layouts = degrees.iter().filter(|&&degree| degree > Degree::ONE);
        let layouts = layouts.map(|&degree| Layout::of(degree, cluster));
        let pair = degrees.iter().any(|degree| degree.get() == 2);
        let pair = pair.then(|| Layout::pair_across(cluster)).flatten();
        layouts.chain(pair).collect()
    }

    /// The layouts that exchange is measured on, of `degrees` in increasing order: inside nodes powers of two, since
    /// bandwidth changes little in between; across nodes, where it depends on how a group is divided, every degree, or
    /// a selection of equal distances.
    pub fn exchanging(degrees: &[Degree], cluster: &Cluster) -> Vec<Self> {
        let layouts = degrees.iter().filter(|&&degree| degree > Degree::ONE);
        let layouts = layouts.map(|&degree| Layout::of(degree, cluster));
        let (mut inside, across): (Vec<Layout>, Vec<Layout>) =
            layouts.partition(|layout| layout.span == Span::OneNode);
        let largest = inside.last().map(|layout| layout.degree);
        inside.retain(|layout| {
            layout.degree.get().is_power_of_two() || Some(layout.degree) == largest
        });
        let pair = degrees.iter().any(|degree| degree.get() == 2);
        let pair = pair.then(|| Layout::pair_across(cluster)).flatten();
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

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    fn groups(layout: &Layout) -> Vec<Vec<u32>> {
        let groups = layout.groups.iter();
        groups
            .map(|group| group.iter().map(|rank| rank.0).collect())
            .collect()
    }

    #[test]
    fn groups_stay_inside_nodes_that_have_room_for_them() {
        let layout = Layout::of(degree(3), &cluster(2, 4));
        assert_eq!(layout.span, Span::OneNode);
        assert_eq!(groups(&layout), [[0, 1, 2], [4, 5, 6]]);
    }

    #[test]
    fn groups_that_cross_nodes_share_none() {
        let layout = Layout::of(degree(3), &cluster(5, 2));
        assert_eq!(layout.span, Span::ManyNodes);
        assert_eq!(groups(&layout), [[0, 1, 2], [4, 5, 6]]);
        assert!(Layout::of(degree(9), &cluster(2, 4)).groups.is_empty());
    }

    #[test]
    fn both_spans_are_measured() {
        let degrees: Vec<Degree> = (1..=8).map(degree).collect();
        let layouts = Layout::exchanging(&degrees, &cluster(2, 4));
        let shapes: Vec<_> = layouts
            .iter()
            .map(|layout| (layout.degree.get(), layout.span))
            .collect();
        let inside = [(2, Span::OneNode), (4, Span::OneNode)];
        let across = [2, 5, 6, 7, 8].map(|degree| (degree, Span::ManyNodes));
        assert_eq!(shapes, [&inside[..], &across].concat());
        assert_eq!(groups(&layouts[2]), [[0, 4]]);
    }

    #[test]
    fn of_many_degrees_across_nodes_some_are_measured() {
        let degrees: Vec<Degree> = (1..=64).map(degree).collect();
        let layouts = Layout::exchanging(&degrees, &cluster(8, 8));
        let across: Vec<u32> = layouts
            .iter()
            .filter(|layout| layout.span == Span::ManyNodes)
            .map(|layout| layout.degree.get())
            .collect();
        assert_eq!(across, [2, 9, 16, 24, 32, 40, 48, 56, 64]);
    }

    #[test]
    fn one_node_has_the_powers_of_two_and_the_largest() {
        let degrees: Vec<Degree> = (1..=6).map(degree).collect();
        let layouts = Layout::exchanging(&degrees, &cluster(1, 8));
        let degrees: Vec<u32> = layouts.iter().map(|layout| layout.degree.get()).collect();
        assert_eq!(degrees, [2, 4, 6]);
    }
}
