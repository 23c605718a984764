//! Which devices a new group gets.

use lengthwise_core::Rank;
use lengthwise_cost::Span;

use crate::Problem;

/// The devices of one micro-batch that are in no group yet.
#[derive(Clone)]
pub(crate) struct FreeDevices {
    /// For each node its free devices, those with the largest budget and then the fastest last.
    nodes: Vec<Vec<FreeDevice>>,
    num_free: usize,
}

#[derive(Clone, Copy)]
struct FreeDevice {
    rank: u32,
    budget: u64,
    speed: f64,
}

/// Devices for a group.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) ranks: Vec<Rank>,
    pub(crate) span: Span,
    /// The budget of the device with the least memory.
    pub(crate) budget: u64,
    /// The speed of the slowest device.
    pub(crate) speed: f64,
}

impl FreeDevices {
    /// Every device of the cluster.
    pub(crate) fn all(problem: Problem<'_>) -> Self {
        let cluster = problem.cluster;
        let nodes = (0..cluster.num_nodes()).map(|node| {
            let ranks = cluster.node_ranks(node).unwrap_or(0..0);
            let mut free: Vec<FreeDevice> = ranks
                .map(|rank| {
                    let device = &cluster.devices()[rank as usize];
                    FreeDevice {
                        rank,
                        budget: problem.cost.budget(device).0,
                        speed: device.speed().get(),
                    }
                })
                .collect();
            free.sort_by(|a, b| {
                let strength = a.budget.cmp(&b.budget).then(a.speed.total_cmp(&b.speed));
                strength.then(b.rank.cmp(&a.rank))
            });
            free
        });
        FreeDevices {
            nodes: nodes.collect(),
            num_free: cluster.devices().len(),
        }
    }

    /// Takes `degree` devices with a budget of at least `budget`: the strongest of the node that they leave the
    /// least of, or else of as few nodes as possible.
    pub(crate) fn take(&mut self, degree: u32, budget: u64) -> Option<Seat> {
        let degree = degree as usize;
        if degree > self.num_free {
            return None;
        }
        let suitable = |node: &Vec<FreeDevice>| {
            node.len() - node.partition_point(|device| device.budget < budget)
        };
        let fits_best = (0..self.nodes.len())
            .filter(|&node| suitable(&self.nodes[node]) >= degree)
            .min_by_key(|&node| self.nodes[node].len());
        let mut taken = Vec::with_capacity(degree);
        if let Some(node) = fits_best {
            let left = self.nodes[node].len() - degree;
            taken.extend(self.nodes[node].drain(left..));
        } else {
            let mut by_room: Vec<(usize, usize)> =
                self.nodes.iter().map(suitable).zip(0..).collect();
            if by_room.iter().map(|&(room, _)| room).sum::<usize>() < degree {
                return None;
            }
            by_room.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            for (room, node) in by_room {
                let left = self.nodes[node].len() - room.min(degree - taken.len());
                taken.extend(self.nodes[node].drain(left..));
            }
        }
        self.num_free -= degree;
        let weakest = |least: f64, device: &FreeDevice| least.min(device.speed);
        let mut ranks: Vec<Rank> = taken.iter().map(|device| Rank(device.rank)).collect();
        ranks.sort_unstable();
        Some(Seat {
            ranks,
            span: if fits_best.is_some() {
                Span::OneNode
            } else {
                Span::ManyNodes
            },
            budget: taken.iter().map(|device| device.budget).min().unwrap_or(0),
            speed: taken.iter().fold(f64::INFINITY, weakest),
        })
    }
}
