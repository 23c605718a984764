//! The described links as a network, and what crosses which of them.

use lengthwise_core::{Cluster, Rank, Seconds};
use lengthwise_cost::ClusterLinks;

use crate::engine::{CallId, LinkId, Network, RouteId};
use crate::outcome::LinkPlace;

/// The network of a cluster: a link from each device to its node's switch, and the NICs of each node.
#[derive(Debug)]
pub struct Wiring {
    links: ClusterLinks,
    /// Where each of the network's links is, in their order.
    places: Vec<LinkPlace>,
    devices: Vec<LinkId>,
    /// The first NIC of each node; empty where there is one node.
    nics: Vec<LinkId>,
}

/// What a call crosses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    pub route: RouteId,
    pub latency: Seconds,
}

impl Wiring {
    /// Adds the links of `cluster` to a network that has none yet.
    pub fn new(cluster: &Cluster, links: ClusterLinks, network: &mut Network<CallId>) -> Self {
        let mut wiring = Wiring {
            links,
            places: Vec::new(),
            devices: Vec::new(),
            nics: Vec::new(),
        };
        for rank in cluster.ranks() {
            let bandwidth = links.device.bandwidth_bytes_per_s();
            wiring.devices.push(network.add_link(bandwidth));
            wiring.places.push(LinkPlace::Device { rank });
        }
        if cluster.num_nodes() > 1 {
            for node in 0..cluster.num_nodes() {
                for nic in 0..links.nics_per_node {
                    let link = network.add_link(links.nic.bandwidth_bytes_per_s());
                    if nic == 0 {
                        wiring.nics.push(link);
                    }
                    wiring.places.push(LinkPlace::Nic { node, nic });
                }
            }
        }
        wiring
    }

    /// Where each link is.
    pub fn places(&self) -> impl Iterator<Item = (LinkId, LinkPlace)> + '_ {
        let ids = (0..).map(LinkId);
        ids.zip(self.places.iter().copied())
    }

    /// The path of an all-to-all of these ranks, for each byte that each of them shares out equally among all:
    /// what goes to ranks of its node crosses the devices' links, what leaves the node crosses NICs.
    pub fn exchange(
        &self,
        ranks: &[Rank],
        cluster: &Cluster,
        network: &mut Network<CallId>,
    ) -> Path {
        let node_of = |rank: Rank| cluster.node_of(rank).unwrap_or(0);
        let degree = ranks.len() as f64;
        let mut on_node = vec![0u32; cluster.num_nodes()];
        for &rank in ranks {
            on_node[node_of(rank)] += 1;
        }
        let mut crossed = Crossed::default();
        for &rank in ranks {
            let node = node_of(rank);
            let here = f64::from(on_node[node]);
            crossed.add(self.devices[rank.index()], (here - 1.0) / degree);
            crossed.add_nic(self.nic_of(rank, node, cluster), (degree - here) / degree);
        }
        self.path(crossed, network)
    }

    /// The path of a ring over all ranks, such as an all-gather, for each byte that each of them receives: every node
    /// receives what others hold once, over all its NICs that have devices, and spreads it among its devices.
    pub fn ring(&self, cluster: &Cluster, network: &mut Network<CallId>) -> Path {
        let all = f64::from(cluster.num_devices());
        let mut crossed = Crossed::default();
        for node in 0..cluster.num_nodes() {
            let ranks = cluster.node_ranks(node).unwrap_or(0..0);
            let here = ranks.len() as f64;
            let from_others = (all - here) / (all - 1.0).max(1.0);
            let nics = self.links.nics_per_node.min(ranks.len() as u32);
            for rank in ranks.clone() {
                let by_link = 1.0 - from_others / here;
                crossed.add(self.devices[rank as usize], by_link);
            }
            for rank in ranks.take(nics as usize) {
                let share = from_others / f64::from(nics);
                crossed.add_nic(self.nic_of(Rank(rank), node, cluster), share);
            }
        }
        self.path(crossed, network)
    }

    fn nic_of(&self, rank: Rank, node: usize, cluster: &Cluster) -> Option<LinkId> {
        let first = self.nics.get(node)?;
        let start = cluster.node_ranks(node)?.start;
        Some(LinkId(
            first.0 + (rank.0 - start) % self.links.nics_per_node,
        ))
    }

    fn path(&self, mut crossed: Crossed, network: &mut Network<CallId>) -> Path {
        let latency = if crossed.leaves_node {
            self.links.nic.latency().max(self.links.device.latency())
        } else {
            self.links.device.latency()
        };
        crossed.links.sort_unstable_by_key(|&(link, _)| link);
        crossed.links.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        Path {
            route: network.add_route(crossed.links),
            latency,
        }
    }
}

/// Links with the bytes that cross them, some perhaps more than once.
#[derive(Default)]
struct Crossed {
    links: Vec<(LinkId, f64)>,
    leaves_node: bool,
}

impl Crossed {
    fn add(&mut self, link: LinkId, weight: f64) {
        // Less is what rounding leaves where nothing crosses.
        if weight > 1e-12 {
            self.links.push((link, weight));
        }
    }

    fn add_nic(&mut self, nic: Option<LinkId>, weight: f64) {
        if let Some(nic) = nic {
            self.leaves_node |= weight > 1e-12;
            self.add(nic, weight);
        }
    }
}
