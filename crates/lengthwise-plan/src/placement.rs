//! Device placement: the devices that a new group gets.

use std::collections::HashMap;

use lengthwise_core::{Cluster, PlanRules, Rank};
use lengthwise_cost::Span;

use crate::Problem;
use crate::aligned::FreeRuns;
use crate::budget::{Budget, budgets_by_node};
use crate::load::Load;

/// The devices of the cluster node by node, in the order in which groups take them.
#[derive(Clone)]
pub(crate) struct Devices {
    /// For each node its devices, the ones with the largest budget and then the fastest last; by rank where groups are runs.
    nodes: Vec<Vec<PlacedDevice>>,
    /// For each node its kind: nodes of a kind have devices of the same budgets and speeds.
    kinds: Vec<u32>,
    num_kinds: usize,
    num_devices: u32,
    /// Whether all have the same budget and speed.
    equal: bool,
    /// Whether groups have to be runs of ranks that begin at multiples of their degrees and would not be by themselves.
    in_runs: bool,
}

#[derive(Clone, Copy)]
struct PlacedDevice {
    rank: u32,
    /// Its host's part is no more than of those behind it that groups take first; by rank where groups are runs.
    budget: Budget,
    speed: f64,
}

/// The devices of one micro-batch that are in no group yet: of every node the first so many.
#[derive(Clone)]
pub(crate) struct FreeDevices {
    /// How many of each node.
    left: Vec<u32>,
    /// The nodes of each kind with so many left, kind by kind; empty nodes are not listed.
    nodes_with: Vec<Vec<u32>>,
    /// The most devices of any node.
    largest_node: usize,
    num_free: u32,
    /// Where groups have to be runs.
    runs: Option<FreeRuns>,
}

/// The devices that are given to a group.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    /// Runs of devices, one for each node.
    pieces: Pieces,
    pub(crate) span: Span,
    /// What each device has.
    pub(crate) budget: Budget,
    /// Seconds that the slowest device takes for one at nominal speed.
    pub(crate) slowness: f64,
}

/// Devices `start..end` in the order of a node.
#[derive(Clone, Copy, Debug)]
struct Piece {
    node: u32,
    start: u32,
    end: u32,
}

#[derive(Clone, Debug)]
enum Pieces {
    One(Piece),
    Many(Box<[Piece]>),
}

impl Pieces {
    fn as_slice(&self) -> &[Piece] {
        match self {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }
}

impl Allocation {
    /// The nodes it is on, and how many devices it has there.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let pieces = self.pieces.as_slice().iter();
        pieces.map(|piece| (piece.node as usize, piece.end - piece.start))
    }
}

impl Devices {
    pub(crate) fn of(problem: Problem<'_>) -> Self {
        let cluster = problem.cluster;
        let in_runs = needs_runs(cluster, &problem.rules);
        let budgets = budgets_by_node(problem).into_iter();
        let nodes = (0..cluster.num_nodes())
            .zip(budgets)
            .map(|(node, budgets)| {
                let ranks = cluster.node_ranks(node).unwrap_or(0..0);
                let devices = ranks.zip(budgets).map(|(rank, budget)| PlacedDevice {
                    rank,
                    budget,
                    speed: cluster.devices()[rank as usize].speed().get(),
                });
                let mut devices: Vec<PlacedDevice> = devices.collect();
                if in_runs {
                    return devices;
                }
                devices.sort_by(|a, b| {
                    let strength = a.budget.cmp(&b.budget).then(a.speed.total_cmp(&b.speed));
                    strength.then(b.rank.cmp(&a.rank))
                });
                // The last ones are to be those that hold most, on their hosts as well.
                let mut host = u64::MAX;
                for device in devices.iter_mut().rev() {
                    host = host.min(device.budget.host);
                    device.budget.host = host;
                }
                devices
            });
        let nodes: Vec<Vec<PlacedDevice>> = nodes.collect();
        let first = nodes[0][0];
        let same =
            |device: &PlacedDevice| (device.budget, device.speed) == (first.budget, first.speed);
        let (kinds, num_kinds) = kinds_of(&nodes);
        Devices {
            equal: nodes.iter().flatten().all(same),
            nodes,
            kinds,
            num_kinds,
            num_devices: cluster.num_devices(),
            in_runs,
        }
    }

    /// Whether groups keep the devices of their allocations: on others they would be no aligned runs.
    pub(crate) fn are_in_runs(&self) -> bool {
        self.in_runs
    }

    /// Whether all devices have the same budget and speed.
    pub(crate) fn are_equal(&self) -> bool {
        self.equal
    }

    /// All of them.
    pub(crate) fn all_free(&self) -> FreeDevices {
        let left: Vec<u32> = self.nodes.iter().map(|node| node.len() as u32).collect();
        let largest_node = left.iter().copied().max().unwrap_or(0) as usize;
        let mut nodes_with = vec![Vec::new(); self.num_kinds * (largest_node + 1)];
        for (node, &left) in left.iter().enumerate().rev() {
            let kind = self.kinds[node] as usize;
            nodes_with[kind * (largest_node + 1) + left as usize].push(node as u32);
        }
        FreeDevices {
            left,
            nodes_with,
            largest_node,
            num_free: self.num_devices,
            runs: self.in_runs.then(|| FreeRuns::all(self.num_devices)),
        }
    }

    /// The pieces of a run of ranks, node by node.
    fn pieces(&self, first: u32, degree: u32) -> Vec<Piece> {
        let mut node_start = 0;
        let mut pieces = Vec::new();
        for (node, devices) in (0u32..).zip(&self.nodes) {
            let node_end = node_start + devices.len() as u32;
            let (start, end) = (first.max(node_start), (first + degree).min(node_end));
            if start < end {
                pieces.push(Piece {
                    node,
                    start: start - node_start,
                    end: end - node_start,
                });
            }
            node_start = node_end;
        }
        pieces
    }

    /// A run of ranks.
    fn run(&self, first: u32, degree: u32) -> Allocation {
        let pieces = self.pieces(first, degree);
        match pieces[..] {
            [piece] => self.allocation(Pieces::One(piece), Span::OneNode),
            _ => self.allocation(Pieces::Many(pieces.into_boxed_slice()), Span::ManyNodes),
        }
    }

    /// How many nodes there are.
    pub(crate) fn num_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The numbers of a node's ranks.
    pub(crate) fn node_ranks(&self, node: usize) -> std::ops::Range<u32> {
        let ranks = || self.nodes[node].iter().map(|device| device.rank);
        let start = ranks().min().unwrap_or(0);
        start..start + self.nodes[node].len() as u32
    }

    /// The ranks of an allocation, increasing.
    pub(crate) fn ranks(&self, allocation: &Allocation) -> Vec<Rank> {
        let devices = allocation
            .pieces
            .as_slice()
            .iter()
            .flat_map(|piece| self.devices(piece));
        let mut ranks: Vec<Rank> = devices.map(|device| Rank(device.rank)).collect();
        ranks.sort_unstable();
        ranks
    }

    fn devices(&self, piece: &Piece) -> &[PlacedDevice] {
        &self.nodes[piece.node as usize][piece.start as usize..piece.end as usize]
    }

    /// How many of the first `left` devices of a node can hold a load; they come last.
    fn suitable(&self, node: u32, left: u32, load: Load) -> u32 {
        let devices = &self.nodes[node as usize][..left as usize];
        if self.equal {
            return if devices
                .first()
                .is_some_and(|device| device.budget.holds(load))
            {
                left
            } else {
                0
            };
        }
        left - devices.partition_point(|device| !device.budget.holds(load)) as u32
    }

    /// The speed of the slowest device of a piece.
    fn least_speed(&self, piece: &Piece) -> f64 {
        let devices = self.devices(piece).iter();
        let devices = devices.take(if self.equal { 1 } else { usize::MAX });
        devices
            .map(|device| device.speed)
            .fold(f64::INFINITY, f64::min)
    }

    fn allocation(&self, pieces: Pieces, span: Span) -> Allocation {
        let (mut budget, mut speed) = (Budget::MOST, f64::INFINITY);
        for piece in pieces.as_slice() {
            let devices = self.devices(piece);
            for device in if self.equal { &devices[..1] } else { devices } {
                budget = budget.least(device.budget);
            }
            speed = speed.min(self.least_speed(piece));
        }
        Allocation {
            pieces,
            span,
            budget,
            slowness: 1.0 / speed,
        }
    }
}

impl FreeDevices {
    pub(crate) fn num_free(&self) -> u32 {
        self.num_free
    }

    /// Finds `degree` devices that can hold `load`: the fastest that some node has left, of the node that
    /// they leave the least of; or else of as few nodes as possible, fast ones first.
    ///
    /// Long sequences come first, so that they get the fast devices. The pace of a piece is that of its slowest device.
    pub(crate) fn find(&self, devices: &Devices, degree: u32, load: Load) -> Option<Allocation> {
        if degree > self.num_free {
            return None;
        }
        if let Some(runs) = &self.runs {
            return find_run(devices, runs, degree, load);
        }
        let mut best: Option<(f64, Piece)> = None;
        for nodes_of_kind in self.nodes_with.chunks(self.largest_node + 1) {
            for (left, nodes) in (0u32..).zip(nodes_of_kind).skip(degree as usize) {
                let Some(&node) = nodes.last() else { continue };
                if devices.suitable(node, left, load) < degree {
                    continue;
                }
                let (start, end) = (left - degree, left);
                let piece = Piece { node, start, end };
                let speed = devices.least_speed(&piece);
                if best.is_none_or(|(fastest, _)| speed > fastest) {
                    best = Some((speed, piece));
                }
                if devices.equal {
                    break;
                }
            }
        }
        if let Some((_, piece)) = best {
            return Some(devices.allocation(Pieces::One(piece), Span::OneNode));
        }
        if devices.nodes.len() == 1 {
            return None;
        }
        let mut missing = degree;
        let mut by_room: Vec<(u32, u32)> = (0u32..)
            .zip(&self.left)
            .map(|(node, &left)| (devices.suitable(node, left, load), node))
            .filter(|&(room, _)| room > 0)
            .collect();
        let piece = |node: u32, count: u32| {
            let end = self.left[node as usize];
            let start = end - count;
            Piece { node, start, end }
        };
        let speed =
            |&(room, node): &(u32, u32)| devices.least_speed(&piece(node, room.min(degree)));
        by_room.sort_by(|a, b| {
            let faster = speed(b).total_cmp(&speed(a));
            faster.then(b.0.cmp(&a.0)).then(a.1.cmp(&b.1))
        });
        let mut pieces = Vec::new();
        for (room, node) in by_room {
            let count = room.min(missing);
            pieces.push(piece(node, count));
            missing -= count;
            if missing == 0 {
                let pieces = Pieces::Many(pieces.into_boxed_slice());
                return Some(devices.allocation(pieces, Span::ManyNodes));
            }
        }
        None
    }

    /// Takes what [`find`](Self::find) found.
    pub(crate) fn take(&mut self, devices: &Devices, allocation: &Allocation) {
        if let Some(runs) = &mut self.runs {
            let ranks = devices.ranks(allocation);
            runs.take(ranks[0].0, ranks.len() as u32);
            self.num_free -= ranks.len() as u32;
            return;
        }
        for piece in allocation.pieces.as_slice() {
            let before = std::mem::replace(&mut self.left[piece.node as usize], piece.start);
            let kind = devices.kinds[piece.node as usize] as usize * (self.largest_node + 1);
            let listed = &mut self.nodes_with[kind + before as usize];
            if let Some(position) = listed.iter().rposition(|&node| node == piece.node) {
                listed.swap_remove(position);
            }
            if piece.start > 0 {
                self.nodes_with[kind + piece.start as usize].push(piece.node);
            }
            self.num_free -= piece.end - piece.start;
        }
    }
}

/// Whether aligned groups have to be looked for: where devices are equal, and so are nodes of a power of two of them, groups
/// that are laid out from the largest to the smallest are aligned.
pub(crate) fn needs_runs(cluster: &Cluster, rules: &PlanRules) -> bool {
    if !rules.aligned_powers_of_two {
        return false;
    }
    let first = cluster.devices()[0];
    let are_equal = cluster.devices().iter().all(|device| *device == first);
    let node_len = |node| cluster.node_ranks(node).map_or(0, |ranks| ranks.len());
    let per_node = node_len(0);
    let are_nodes_equal = (0..cluster.num_nodes()).all(|node| node_len(node) == per_node);
    let lie_in_a_row = cluster.num_nodes() == 1 || are_nodes_equal && per_node.is_power_of_two();
    !are_equal || !lie_in_a_row
}

/// An aligned run of devices that can hold `load`: of one node if there is one, then the fastest, then in the
/// smallest run that is free.
fn find_run(devices: &Devices, runs: &FreeRuns, degree: u32, load: Load) -> Option<Allocation> {
    let mut best: Option<(bool, f64, u32, Allocation)> = None;
    for (free_len, first) in runs.places(degree) {
        // Later ones are in no smaller runs.
        if best.as_ref().is_some_and(|&(is_far, .., ref allocation)| {
            devices.equal && !is_far && allocation.budget.holds(load)
        }) {
            break;
        }
        let allocation = devices.run(first, degree);
        if !allocation.budget.holds(load) {
            continue;
        }
        let key = (
            allocation.span == Span::ManyNodes,
            allocation.slowness,
            free_len,
        );
        if best
            .as_ref()
            .is_none_or(|&(is_far, slowness, len, _)| key < (is_far, slowness, len))
        {
            best = Some((key.0, key.1, key.2, allocation));
        }
    }
    best.map(|(.., allocation)| allocation)
}

/// The kind of every node, and how many kinds there are.
fn kinds_of(nodes: &[Vec<PlacedDevice>]) -> (Vec<u32>, usize) {
    let mut numbers: HashMap<Vec<(Budget, u64)>, u32> = HashMap::new();
    let kinds = nodes.iter().map(|node| {
        let figures = node
            .iter()
            .map(|device| (device.budget, device.speed.to_bits()));
        let next = numbers.len() as u32;
        *numbers.entry(figures.collect()).or_insert(next)
    });
    let kinds: Vec<u32> = kinds.collect();
    (kinds, numbers.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lengthwise_core::PlanRules;

    use super::*;
    use crate::adaptive::Random;
    use crate::common::{Case, Size, cases, sample};

    /// Takes groups of random degrees and budgets until nothing is found, over and over on different clusters. `check` sees
    /// what is free, what is asked for and what is found.
    fn each_request(
        seed: u8,
        rules: PlanRules,
        mut check: impl FnMut(&Devices, &FreeDevices, u32, Load, Option<&Allocation>),
    ) {
        let size = Size {
            num_nodes: 4,
            devices_per_node: 6,
            num_sequences: 1,
            seq_len: 1000,
        };
        for (index, case) in sample(cases(size), seed, 400).enumerate() {
            let case = Case { rules, ..case };
            let devices = Devices::of(case.problem());
            let mut random = Random::new(index);
            let mut free = devices.all_free();
            let budgets: Vec<Budget> = all(&devices).map(|device| device.budget).collect();
            for _ in 0..10 {
                let wanted = if rules.aligned_powers_of_two {
                    1 << random.below(4)
                } else {
                    random.below(8) as u32 + 1
                };
                let budget = budgets[random.below(budgets.len())];
                let load = match random.below(3) {
                    0 => budget,
                    1 => Budget {
                        memory: budget.memory + 1,
                        ..budget
                    },
                    _ => Budget { memory: 0, host: 0 },
                };
                let load = Load {
                    memory: load.memory,
                    host: load.host,
                    ..Load::default()
                };
                let found = free.find(&devices, wanted, load);
                check(&devices, &free, wanted, load, found.as_ref());
                if let Some(found) = found {
                    let before = free.num_free();
                    free.take(&devices, &found);
                    assert_eq!(free.num_free() + wanted, before);
                }
            }
        }
    }

    fn all(devices: &Devices) -> impl Iterator<Item = &PlacedDevice> {
        devices.nodes.iter().flatten()
    }

    fn device_of(devices: &Devices, rank: Rank) -> PlacedDevice {
        *all(devices)
            .find(|device| device.rank == rank.0)
            .expect("it is a rank")
    }

    /// Checks what an allocation says of its devices.
    fn assert_describes(allocation: &Allocation, devices: &Devices, degree: u32, load: Load) {
        let ranks = devices.ranks(allocation);
        assert_eq!(ranks.len(), degree as usize);
        assert_eq!(ranks.iter().collect::<BTreeSet<_>>().len(), ranks.len());
        let of = || ranks.iter().map(|&rank| device_of(devices, rank));
        let least = of().map(|device| device.budget).reduce(Budget::least);
        assert!(allocation.budget.holds(load) && Some(allocation.budget) == least);
        let slowest = of()
            .map(|device| device.speed)
            .fold(f64::INFINITY, f64::min);
        assert_eq!(allocation.slowness, 1.0 / slowest);
        let num_nodes = allocation.parts().count();
        assert_eq!(allocation.span == Span::OneNode, num_nodes == 1);
        assert_eq!(allocation.parts().map(|(_, num)| num).sum::<u32>(), degree);
        for (node, num) in allocation.parts() {
            let of_node = devices.node_ranks(node);
            let inside = ranks.iter().filter(|rank| of_node.contains(&rank.0));
            assert_eq!(inside.count(), num as usize);
        }
    }

    #[test]
    fn groups_get_free_devices_of_one_node_if_any_has_enough_the_fastest_first() {
        let [mut num_near, mut num_far, mut num_none] = [0; 3];
        each_request(
            170,
            PlanRules::default(),
            |devices, free, degree, load, found| {
                let left = |node: usize| &devices.nodes[node][..free.left[node] as usize];
                let suitable = |node: usize| {
                    let suitable = left(node).iter().filter(|device| device.budget.holds(load));
                    suitable.count() as u32
                };
                let nodes = 0..devices.num_nodes();
                let near = nodes.clone().filter(|&node| suitable(node) >= degree);
                let near: Vec<usize> = near.collect();
                let total: u32 = nodes.clone().map(suitable).sum();
                assert_eq!(
                    free.num_free(),
                    nodes
                        .clone()
                        .map(|node| left(node).len() as u32)
                        .sum::<u32>()
                );
                let Some(found) = found else {
                    num_none += 1;
                    assert!(near.is_empty());
                    assert!(total < degree);
                    return;
                };
                assert_describes(found, devices, degree, load);
                let is_free = |rank: Rank| {
                    nodes
                        .clone()
                        .any(|node| left(node).iter().any(|device| device.rank == rank.0))
                };
                assert!(devices.ranks(found).into_iter().all(is_free));
                if near.is_empty() {
                    num_far += 1;
                    assert_eq!(found.span, Span::ManyNodes);
                    if devices.are_equal() {
                        let mut rooms: Vec<u32> = nodes.map(suitable).collect();
                        rooms.sort_unstable_by(|a, b| b.cmp(a));
                        let mut room = 0;
                        let enough = rooms.iter().take_while(|&&more| {
                            let lacks = room < degree;
                            room += more;
                            lacks
                        });
                        assert_eq!(found.parts().count(), enough.count());
                    }
                } else {
                    num_near += 1;
                    assert_eq!(found.span, Span::OneNode);
                    // The strongest of each node.
                    let speed = |node: usize| {
                        let strongest = left(node).iter().rev().take(degree as usize);
                        strongest
                            .map(|device| device.speed)
                            .fold(f64::INFINITY, f64::min)
                    };
                    let fastest = near.iter().map(|&node| speed(node)).fold(0.0, f64::max);
                    assert_eq!(found.slowness, 1.0 / fastest);
                    if devices.are_equal() && devices.num_kinds == 1 {
                        let (node, _) = found.parts().next().unwrap();
                        let fullest = near.iter().map(|&node| free.left[node]).min();
                        assert_eq!(Some(free.left[node]), fullest);
                    }
                }
            },
        );
        assert!(
            num_near > 300 && num_far > 100 && num_none > 300,
            "{num_near}, {num_far}, {num_none}"
        );
    }

    #[test]
    fn aligned_groups_get_runs_of_one_node_if_there_are_any_then_the_fastest_in_the_smallest_gap() {
        let rules = PlanRules {
            aligned_powers_of_two: true,
            ..PlanRules::default()
        };
        let [mut num_near, mut num_far, mut num_none] = [0; 3];
        each_request(171, rules, |devices, free, degree, load, found| {
            let Some(runs) = &free.runs else {
                // They lie in a row by themselves.
                return;
            };
            // Each place by what it is chosen by: whether it spans nodes, its slowness, and the gap that it is in.
            let places = runs.places(degree).filter_map(|(gap, first)| {
                assert!(first.is_multiple_of(degree));
                let ranks = first..first + degree;
                let of = || ranks.clone().map(|rank| device_of(devices, Rank(rank)));
                let slowest = of()
                    .map(|device| device.speed)
                    .fold(f64::INFINITY, f64::min);
                let is_near = (0..devices.num_nodes()).any(|node| {
                    let of_node = devices.node_ranks(node);
                    of_node.contains(&first) && of_node.contains(&(first + degree - 1))
                });
                of().all(|device| device.budget.holds(load)).then_some((
                    !is_near,
                    1.0 / slowest,
                    gap,
                ))
            });
            let best = places.min_by(|a, b| a.partial_cmp(b).expect("all are numbers"));
            let Some(found) = found else {
                num_none += 1;
                assert_eq!(best, None);
                return;
            };
            assert_describes(found, devices, degree, load);
            let first = devices.ranks(found)[0];
            let gap = runs.places(degree).find(|&(_, start)| start == first.0);
            let (gap, _) = gap.expect("it is a place");
            let is_far = found.span == Span::ManyNodes;
            let (_, slowness, least_gap) = best.expect("one was found");
            assert_eq!((is_far, found.slowness), (best.unwrap().0, slowness));
            assert_eq!(gap, least_gap);
            num_near += usize::from(!is_far);
            num_far += usize::from(is_far);
        });
        assert!(
            num_near > 300 && num_far > 30 && num_none > 100,
            "{num_near}, {num_far}, {num_none}"
        );
    }
}
