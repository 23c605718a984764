//! What transfers leave each other of a link, worked out by hand: each test's comment is the calculation.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

use lengthwise_core::{Bytes, Cluster, Device, Rank, Seconds, Speed};
use lengthwise_cost::{ClusterLinks, Link};
use lengthwise_network::{Traffic, Wiring};

const MB: f64 = 1e6;

/// A cluster's links with transfers that all begin at once, each known by a letter.
struct Links {
    cluster: Cluster,
    wiring: Wiring,
    traffic: Traffic<char>,
}

impl Links {
    /// Nodes of so many devices, one NIC each; bandwidths in bytes a second.
    fn new(num_nodes: u32, devices_per_node: u32, device: f64, nic: f64) -> Self {
        let link = |bandwidth| Link::new(bandwidth, Seconds::ZERO).unwrap();
        let links = ClusterLinks {
            device: link(device),
            nics_per_node: 1,
            nic: link(nic),
        };
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(num_nodes, devices_per_node, device).unwrap();
        let mut traffic = Traffic::new();
        let wiring = Wiring::new(&cluster, links, traffic.network_mut());
        Links {
            cluster,
            wiring,
            traffic,
        }
    }

    /// An exchange in which each of these ranks has so many bytes for every other.
    fn exchange(mut self, name: char, ranks: &[u32], bytes: f64) -> Self {
        let ranks: Vec<Rank> = ranks.iter().copied().map(Rank).collect();
        let crossing = (self.wiring).uneven_exchange(&ranks, &self.cluster, |_, _| bytes);
        let path = crossing.path_once(self.traffic.network_mut());
        self.traffic.begin(0.0, path, 1.0, name);
        self
    }

    /// A gather in which each of all ranks receives so many bytes.
    fn gather(mut self, name: char, bytes: f64) -> Self {
        let ranks: Vec<Rank> = self.cluster.ranks().collect();
        let crossing = self.wiring.ring(&ranks, &self.cluster);
        let path = crossing.path(self.traffic.network_mut());
        self.traffic.begin(0.0, path, bytes, name);
        self
    }

    #[track_caller]
    fn end_at(mut self, expected: &[(char, f64)]) {
        let ended = self.traffic.advance(f64::MAX);
        let is_close = |(&(name, end), &(other, at)): (&(char, f64), &(char, f64))| {
            name == other && (end - at).abs() <= 1e-9 * at
        };
        let are_close = ended.len() == expected.len() && ended.iter().zip(expected).all(is_close);
        assert!(are_close, "{ended:?} are not {expected:?}");
    }
}

/// 5 MB/s each until the small one's 0.8 MB have gone at 0.16 s; all 8.8 MB take 0.88 s.
#[test]
fn a_small_exchange_does_not_wait_for_a_large_one() {
    Links::new(1, 2, 10.0 * MB, MB)
        .exchange('a', &[0, 1], 8.0 * MB)
        .exchange('b', &[0, 1], 0.8 * MB)
        .end_at(&[('b', 0.16), ('a', 0.88)]);
}

/// As many bytes over the same link end together: 8 MB in 0.8 s.
#[test]
fn a_gather_gets_as_much_of_a_link_as_an_exchange() {
    Links::new(1, 2, 10.0 * MB, MB)
        .exchange('a', &[0, 1], 4.0 * MB)
        .gather('b', 4.0 * MB)
        .end_at(&[('a', 0.8), ('b', 0.8)]);
}

/// 5 MB/s each until the gather's 1 MB have gone at 0.2 s; all 5 MB take 0.5 s.
#[test]
fn a_small_gather_does_not_wait_for_a_large_exchange() {
    Links::new(1, 2, 10.0 * MB, MB)
        .exchange('a', &[0, 1], 4.0 * MB)
        .gather('b', MB)
        .end_at(&[('b', 0.2), ('a', 0.5)]);
}

/// In the group of four, two ranks of each node have 1 MB for both of the other node's: 4 MB over the NIC, where the
/// pair moves 1 MB. 5 MB/s each until the pair's has gone at 0.2 s; all 5 MB take 0.5 s.
#[test]
fn a_group_of_many_ranks_gets_no_more_of_a_nic_than_a_pair() {
    Links::new(2, 3, 1000.0 * MB, 10.0 * MB)
        .exchange('a', &[0, 1, 3, 4], MB)
        .exchange('b', &[2, 5], MB)
        .end_at(&[('b', 0.2), ('a', 0.5)]);
}

/// Of 3 pieces that each rank receives, 2 come from the other node: over the NIC go 2 MB of the gather's 3, at 10 MB/s
/// until 0.2 s. Half of them are for each rank, 10 MB/s over each device's link together with the piece of its own
/// node: 3 MB less 1 MB of its own NIC's in 0.2 s. The exchange inside the node has the other 90 MB/s of its devices' links
/// until then, 18 MB, and all 100 MB/s for its last 10 MB.
#[test]
fn what_a_gather_can_not_use_of_a_link_goes_to_an_exchange() {
    Links::new(2, 2, 100.0 * MB, 10.0 * MB)
        .gather('a', 3.0 * MB)
        .exchange('b', &[0, 1], 28.0 * MB)
        .end_at(&[('a', 0.2), ('b', 0.3)]);
}
