//! The layout of a micro-batch's groups on equal devices, such that groups recur.
//!
//! A communicator costs memory for as long as training lasts. Where devices are equal, it does not matter which of them a
//! group has; so groups are laid out in one way only, the largest first:
//!
//! ```text
//! degrees 8, 4, 2, 2 on two nodes of 8:   | 8 8 8 8 8 8 8 8 | 4 4 4 4 2 2 2 2 |
//! ```
//!
//! Degrees that divide each other then lie at multiples of themselves, whatever else is in the micro-batch, and none
//! leaves its node that need not.

use std::cmp::Reverse;

use lengthwise_core::Rank;

use crate::placement::{Allocation, Devices};

/// The devices of a group on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// How many devices the group has on all nodes; the largest come first.
    degree: Reverse<u32>,
    group: usize,
    num_devices: u32,
}

/// The ranks of each group of one micro-batch, increasing.
pub(crate) fn arrange(devices: &Devices, allocations: &[&Allocation]) -> Vec<Vec<Rank>> {
    if !devices.are_equal() || devices.are_in_runs() {
        return allocations
            .iter()
            .map(|allocation| devices.ranks(allocation))
            .collect();
    }
    in_a_row(devices, allocations).unwrap_or_else(|| node_by_node(devices, allocations))
}

/// Groups whose degrees divide each other, and nodes, one after the other.
fn in_a_row(devices: &Devices, allocations: &[&Allocation]) -> Option<Vec<Vec<Rank>>> {
    let per_node = devices.node_ranks(0).len() as u32;
    let nodes = 0..devices.num_nodes();
    if nodes
        .clone()
        .any(|node| devices.node_ranks(node).len() as u32 != per_node)
    {
        return None;
    }
    let degree =
        |group: usize| -> u32 { allocations[group].parts().map(|(_, devices)| devices).sum() };
    let mut largest_first: Vec<usize> = (0..allocations.len()).collect();
    largest_first.sort_by_key(|&group| Reverse(degree(group)));
    let mut ranks = vec![Vec::new(); allocations.len()];
    let (mut next, mut last) = (0, degree(*largest_first.first()?));
    for group in largest_first {
        let degree = degree(group);
        let respects_nodes = per_node.is_multiple_of(degree) || degree.is_multiple_of(per_node);
        if !respects_nodes || !last.is_multiple_of(degree) {
            return None;
        }
        ranks[group].extend((next..next + degree).map(Rank));
        (next, last) = (next + degree, degree);
    }
    Some(ranks)
}

/// Groups on the nodes of their allocations, but with equal nodes, and the devices of a node, in one order.
fn node_by_node(devices: &Devices, allocations: &[&Allocation]) -> Vec<Vec<Rank>> {
    let mut ranks: Vec<Vec<Rank>> = vec![Vec::new(); allocations.len()];
    let mut parts: Vec<Vec<Part>> = vec![Vec::new(); devices.num_nodes()];
    for (group, allocation) in allocations.iter().enumerate() {
        let degree = Reverse(allocation.parts().map(|(_, num_devices)| num_devices).sum());
        for (node, num_devices) in allocation.parts() {
            parts[node].push(Part {
                degree,
                group,
                num_devices,
            });
        }
    }
    parts.iter_mut().for_each(|parts| parts.sort_unstable());
    // Nodes of a size can stand in for each other: those of the largest groups come first, empty ones last.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&node| {
        let largest = parts[node].first();
        (
            devices.node_ranks(node).len(),
            largest.is_none(),
            largest.copied(),
        )
    });
    let mut places: Vec<usize> = (0..parts.len()).collect();
    places.sort_by_key(|&node| devices.node_ranks(node).len());
    for (node, place) in order.into_iter().zip(places) {
        let mut next = devices.node_ranks(place).start;
        for part in &parts[node] {
            ranks[part.group].extend((next..next + part.num_devices).map(Rank));
            next += part.num_devices;
        }
    }
    ranks.iter_mut().for_each(|ranks| ranks.sort_unstable());
    ranks
}
