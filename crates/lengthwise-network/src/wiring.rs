//! The described links as a network, and what crosses which of them.

use lengthwise_core::{Cluster, Rank, Seconds};
use lengthwise_cost::ClusterLinks;

use crate::{LinkId, LinkPlace, Network, RouteId};

/// The network of a cluster: a link from each device to its node's switch, and the NICs of each node.
#[derive(Clone, Debug)]
pub struct Wiring {
    links: ClusterLinks,
    /// Where each of the network's links is, in their order.
    places: Vec<LinkPlace>,
    devices: Vec<LinkId>,
    /// The first NIC of each node; empty where there is one node.
    nics: Vec<LinkId>,
}

/// A way through the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// The links it crosses.
    pub route: RouteId,
    /// The latency before the first byte.
    pub latency: Seconds,
}

/// Bytes that cross links, those of one direction: the other's are the same or fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// Each link once, in order, with what crosses it: above 0.
    links: Vec<(LinkId, f64)>,
    latency: Seconds,
}

impl Crossing {
    /// The links, each with what crosses it.
    pub fn links(&self) -> &[(LinkId, f64)] {
        &self.links
    }

    /// This crossing as a path, of which every byte of volume counts as often as it crosses each link.
    pub fn path<T: Copy>(&self, network: &mut Network<T>) -> Path {
        Path {
            route: network.add_route(self.links.clone()),
            latency: self.latency,
        }
    }

    /// The same where calls reach only a part of each link's bandwidth, which is as if more crossed it.
    #[must_use]
    pub fn at_efficiency(mut self, wiring: &Wiring, part: impl Fn(LinkPlace) -> f64) -> Self {
        for (link, bytes) in &mut self.links {
            if let Some(&place) = wiring.places.get(link.0 as usize) {
                *bytes /= part(place);
            }
        }
        self
    }

    /// The same so many times.
    #[must_use]
    pub fn times(mut self, times: f64) -> Self {
        for (_, bytes) in &mut self.links {
            *bytes *= times;
        }
        self.links.retain(|&(_, bytes)| bytes > 0.0);
        self
    }

    /// This crossing as a path for one transfer, which is to have a volume of 1.
    pub fn path_once<T: Copy>(&self, network: &mut Network<T>) -> Path {
        Path {
            route: network.add_route_once(self.links.clone()),
            latency: self.latency,
        }
    }
}

impl Wiring {
    /// Adds the links of `cluster` to a network that has none yet.
    pub fn new<T: Copy>(cluster: &Cluster, links: ClusterLinks, network: &mut Network<T>) -> Self {
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

    /// The bytes that cross each link in an all-to-all of these ranks, for each byte that each of them shares out equally among
    /// all: those for ranks of its node cross the devices' links, those that leave the node cross NICs.
    pub fn exchange(&self, ranks: &[Rank], cluster: &Cluster) -> Crossing {
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
        self.crossing(crossed)
    }

    /// The bytes that cross each link in an all-to-all of these ranks, of which number `from` has `bytes(from, to)` for number
    /// `to`.
    pub fn uneven_exchange(
        &self,
        ranks: &[Rank],
        cluster: &Cluster,
        bytes: impl Fn(usize, usize) -> f64,
    ) -> Crossing {
        let nodes: Vec<usize> = (ranks.iter())
            .map(|&rank| cluster.node_of(rank).unwrap_or(0))
            .collect();
        let (mut sent, mut received) = (Crossed::default(), Crossed::default());
        for (me, (&rank, &node)) in ranks.iter().zip(&nodes).enumerate() {
            for (crossed, is_sender) in [(&mut sent, true), (&mut received, false)] {
                let (mut here, mut away) = (0.0, 0.0);
                for (other, &other_node) in nodes.iter().enumerate() {
                    let bytes = match is_sender {
                        _ if other == me => 0.0,
                        true => bytes(me, other),
                        false => bytes(other, me),
                    };
                    if other_node == node {
                        here += bytes;
                    } else {
                        away += bytes;
                    }
                }
                crossed.add(self.devices[rank.index()], here);
                crossed.add_nic(self.nic_of(rank, node, cluster), away);
            }
        }
        self.crossing(sent.merged_with(received))
    }

    /// The bytes that cross each link in a ring over these ranks, such as an all-gather, for each byte that each of them
    /// receives: every node receives the shards of others once, over all its NICs that have devices, and spreads them among its
    /// devices.
    pub fn ring(&self, ranks: &[Rank], cluster: &Cluster) -> Crossing {
        let all = ranks.len() as f64;
        let mut crossed = Crossed::default();
        for node in 0..cluster.num_nodes() {
            let on_node = || {
                let ranks = ranks.iter().copied();
                ranks.filter(|&rank| cluster.node_of(rank) == Some(node))
            };
            let here = on_node().count() as f64;
            let from_others = (all - here) / (all - 1.0).max(1.0);
            let mut nics: Vec<LinkId> = on_node()
                .filter_map(|rank| self.nic_of(rank, node, cluster))
                .collect();
            nics.sort_unstable();
            nics.dedup();
            for rank in on_node() {
                crossed.add(self.devices[rank.index()], 1.0 - from_others / here);
            }
            let share = from_others / nics.len() as f64;
            for nic in nics {
                crossed.add_nic(Some(nic), share);
            }
        }
        self.crossing(crossed)
    }

    fn nic_of(&self, rank: Rank, node: usize, cluster: &Cluster) -> Option<LinkId> {
        let first = self.nics.get(node)?;
        let start = cluster.node_ranks(node)?.start;
        Some(LinkId(
            first.0 + (rank.0 - start) % self.links.nics_per_node,
        ))
    }

    fn crossing(&self, crossed: Crossed) -> Crossing {
        let Crossed { links, leaves_node } = crossed.summed();
        let latency = if leaves_node {
            self.links.nic.latency().max(self.links.device.latency())
        } else {
            self.links.device.latency()
        };
        Crossing { links, latency }
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

    /// Each link once, with all that crosses it.
    fn summed(mut self) -> Self {
        self.links.sort_by_key(|&(link, _)| link);
        self.links.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        self
    }

    /// The more of what crosses each link here and in `other`, which may be the other direction.
    fn merged_with(self, other: Self) -> Self {
        let leaves_node = self.leaves_node || other.leaves_node;
        let mut links = self.summed().links;
        links.extend(other.summed().links);
        links.sort_by_key(|&(link, _)| link);
        links.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = kept.1.max(next.1);
            }
            is_same
        });
        Crossed { links, leaves_node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Speed};
    use lengthwise_cost::Link;

    /// Two nodes of 4 devices; links 0 to 7 are the devices', 8 and 9 the NICs.
    fn wiring() -> (Cluster, Wiring) {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(2, 4, device).unwrap();
        let latency = |seconds| Seconds::new(seconds).unwrap();
        let links = ClusterLinks {
            device: Link::new(100.0, latency(0.1)).unwrap(),
            nics_per_node: 1,
            nic: Link::new(10.0, latency(0.2)).unwrap(),
        };
        let wiring = Wiring::new(&cluster, links, &mut Network::<()>::new());
        (cluster, wiring)
    }

    fn ranks(ranks: std::ops::Range<u32>) -> Vec<Rank> {
        ranks.map(Rank).collect()
    }

    fn crossed(crossing: &Crossing) -> Vec<(u32, f64)> {
        let rounded = |bytes: f64| (bytes * 1e9).round() / 1e9;
        let links = crossing.links().iter();
        links
            .map(|&(link, bytes)| (link.0, rounded(bytes)))
            .collect()
    }

    #[test]
    fn an_exchange_inside_a_node_stays_there() {
        let (cluster, wiring) = wiring();
        let crossing = wiring.exchange(&ranks(1..3), &cluster);
        assert_eq!(crossed(&crossing), [(1, 0.5), (2, 0.5)]);
        assert_eq!(crossing.latency.get(), 0.1);
    }

    #[test]
    fn what_leaves_the_node_of_all_its_devices_shares_the_nic() {
        let (cluster, wiring) = wiring();
        // Of 6 shares, a rank on node 0 keeps 1, sends 3 to its node and 2 away; on node 1 it sends 1 and 4.
        let crossing = wiring.exchange(&ranks(0..6), &cluster);
        let of_devices = [0.5, 0.5, 0.5, 0.5, 0.166_666_667, 0.166_666_667];
        let mut expected: Vec<_> = (0..).zip(of_devices).collect();
        expected.extend([(8, 1.333_333_333), (9, 1.333_333_333)]);
        assert_eq!(crossed(&crossing), expected);
        assert_eq!(crossing.latency.get(), 0.2);
    }

    #[test]
    fn an_even_exchange_is_an_uneven_one_of_equal_shares() {
        let (cluster, wiring) = wiring();
        for group in [0..2, 3..5, 1..8, 0..8] {
            let group = ranks(group);
            let share = 1.0 / group.len() as f64;
            let even = wiring.exchange(&group, &cluster);
            let same = wiring.uneven_exchange(&group, &cluster, |_, _| share);
            assert_eq!(crossed(&even), crossed(&same));
        }
    }

    #[test]
    fn an_uneven_exchange_takes_each_link_as_long_as_its_busier_direction() {
        let (cluster, wiring) = wiring();
        // Rank 3 sends 30 bytes to the other node and receives 10 from there, which keeps 99.
        let bytes = |from: usize, to: usize| if from == to { 99.0 } else { [30.0, 10.0][from] };
        let uneven = wiring.uneven_exchange(&ranks(3..5), &cluster, bytes);
        assert_eq!(crossed(&uneven), [(8, 30.0), (9, 30.0)]);
    }

    #[test]
    fn a_ring_brings_each_node_what_others_hold_once() {
        let (cluster, wiring) = wiring();
        let crossing = wiring.ring(&ranks(0..8), &cluster);
        // Of 7 shards that each rank lacks, 4 are on the other node; a quarter of them comes to each rank from there.
        let device = 1.0 - 1.0 / 7.0;
        let mut expected: Vec<(u32, f64)> = (0..8).map(|link| (link, device)).collect();
        expected.extend([(8, 4.0 / 7.0), (9, 4.0 / 7.0)]);
        let rounded: Vec<_> = expected
            .iter()
            .map(|&(link, b): &(u32, f64)| (link, (b * 1e9).round() / 1e9))
            .collect();
        assert_eq!(crossed(&crossing), rounded);
    }
}
