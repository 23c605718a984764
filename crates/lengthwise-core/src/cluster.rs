//! The machines: nodes of devices, ranks numbered node by node.

use std::ops::Range;

use crate::{Bytes, CoreError, Rank, Speed};

/// The device of one rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    memory: Bytes,
    speed: Speed,
    host_memory: Bytes,
}

impl Device {
    /// A device with `memory` for everything a rank holds, `speed` times as fast as the one costs were measured on, on a
    /// host without limit.
    pub const fn new(memory: Bytes, speed: Speed) -> Self {
        Device {
            memory,
            speed,
            host_memory: Bytes(u64::MAX),
        }
    }

    /// The same device where its share of its host's memory is this.
    #[must_use]
    pub const fn with_host_memory(mut self, host_memory: Bytes) -> Self {
        self.host_memory = host_memory;
        self
    }

    /// All the memory it lends to training.
    pub const fn memory(&self) -> Bytes {
        self.memory
    }

    /// Its share of what its node's host lends to activations; `Bytes(u64::MAX)` where there is no limit.
    pub const fn host_memory(&self) -> Bytes {
        self.host_memory
    }

    /// The same where it is limited.
    pub fn limited_host_memory(&self) -> Option<Bytes> {
        Some(self.host_memory).filter(|&memory| memory < Bytes(u64::MAX))
    }

    /// Its speed beside the device the costs were measured on.
    pub const fn speed(&self) -> Speed {
        self.speed
    }
}

/// Devices in nodes. Ranks count through the nodes in order, so a node's ranks are contiguous.
///
/// ```text
/// node 0: rank 0 1 2 3    node 1: rank 4 5 6 7    node 2: rank 8 9
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    devices: Vec<Device>,
    /// First rank of every node, then the number of devices.
    node_starts: Vec<u32>,
}

impl Cluster {
    /// No cluster has more devices: far beyond what is built, and little enough to list.
    pub const MAX_DEVICES: u32 = 1 << 20;

    /// `num_nodes` nodes of `devices_per_node` equal devices.
    pub fn uniform(
        num_nodes: u32,
        devices_per_node: u32,
        device: Device,
    ) -> Result<Self, CoreError> {
        let num_devices = u64::from(num_nodes) * u64::from(devices_per_node);
        let num_devices = u32::try_from(num_devices).map_err(|_| CoreError::TooManyDevices {
            num_devices: num_devices.into(),
        })?;
        Self::with_num_devices(num_devices, devices_per_node, device)
    }

    /// `num_devices` equal devices, `devices_per_node` a node; the last node takes what is left.
    pub fn with_num_devices(
        num_devices: u32,
        devices_per_node: u32,
        device: Device,
    ) -> Result<Self, CoreError> {
        if num_devices == 0 || devices_per_node == 0 {
            return Err(CoreError::EmptyNode { node: 0 });
        }
        if num_devices > Self::MAX_DEVICES {
            return Err(CoreError::TooManyDevices {
                num_devices: num_devices.into(),
            });
        }
        let mut node_starts: Vec<u32> = (0..num_devices)
            .step_by(devices_per_node as usize)
            .collect();
        node_starts.push(num_devices);
        Ok(Cluster {
            devices: vec![device; num_devices as usize],
            node_starts,
        })
    }

    /// A cluster with the devices of each node given one by one.
    pub fn from_nodes(nodes: Vec<Vec<Device>>) -> Result<Self, CoreError> {
        if nodes.is_empty() {
            return Err(CoreError::EmptyNode { node: 0 });
        }
        if let Some(node) = nodes.iter().position(Vec::is_empty) {
            return Err(CoreError::EmptyNode { node });
        }
        let num_devices: u128 = nodes.iter().map(|node| node.len() as u128).sum();
        if num_devices > Self::MAX_DEVICES.into() {
            return Err(CoreError::TooManyDevices { num_devices });
        }
        let mut node_starts = vec![0];
        let mut devices = Vec::with_capacity(num_devices as usize);
        for node in nodes {
            devices.extend(node);
            node_starts.push(devices.len() as u32);
        }
        Ok(Cluster {
            devices,
            node_starts,
        })
    }

    /// How many devices, and so ranks, there are; at least 1.
    pub fn num_devices(&self) -> u32 {
        self.devices.len() as u32
    }

    /// How many nodes there are; at least 1.
    pub fn num_nodes(&self) -> usize {
        self.node_starts.len() - 1
    }

    /// All ranks in order.
    pub fn ranks(&self) -> impl ExactSizeIterator<Item = Rank> + use<> {
        (0..self.num_devices()).map(Rank)
    }

    /// The devices in the order of their ranks.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The device of `rank`; `None` outside the cluster.
    pub fn device(&self, rank: Rank) -> Option<&Device> {
        self.devices.get(rank.index())
    }

    /// The ranks of a node; `None` outside the cluster.
    pub fn node_ranks(&self, node: usize) -> Option<Range<u32>> {
        (node < self.num_nodes()).then(|| self.node_starts[node]..self.node_starts[node + 1])
    }

    /// The node `rank` is on; `None` outside the cluster.
    pub fn node_of(&self, rank: Rank) -> Option<usize> {
        (rank.0 < self.num_devices())
            .then(|| self.node_starts.partition_point(|&start| start <= rank.0) - 1)
    }

    /// Whether `ranks` lie on more than one node, so that what they exchange leaves the node.
    pub fn crosses_nodes(&self, ranks: &[Rank]) -> bool {
        let mut nodes = ranks.iter().map(|&rank| self.node_of(rank));
        let first = nodes.next();
        nodes.any(|node| Some(node) != first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Device = Device::new(Bytes(1), Speed::NOMINAL);

    #[test]
    fn ranks_are_numbered_node_by_node() {
        let cluster =
            Cluster::from_nodes(vec![vec![DEVICE; 3], vec![DEVICE], vec![DEVICE; 2]]).unwrap();
        let nodes: Vec<_> = cluster
            .ranks()
            .map(|rank| cluster.node_of(rank).unwrap())
            .collect();
        assert_eq!(nodes, [0, 0, 0, 1, 2, 2]);
        assert_eq!(cluster.node_ranks(2), Some(4..6));
        assert_eq!(cluster.node_of(Rank(6)), None);
        assert!(cluster.crosses_nodes(&[Rank(2), Rank(3)]));
        assert!(!cluster.crosses_nodes(&[Rank(5), Rank(4)]));
    }

    #[test]
    fn the_last_node_takes_what_is_left() {
        let cluster = Cluster::with_num_devices(20, 8, DEVICE).unwrap();
        assert_eq!(cluster.num_nodes(), 3);
        assert_eq!(cluster.node_ranks(2), Some(16..20));
    }

    #[test]
    fn a_node_without_devices_is_refused() {
        assert!(Cluster::uniform(0, 4, DEVICE).is_err());
        assert!(Cluster::uniform(4, 0, DEVICE).is_err());
        assert!(Cluster::uniform(u32::MAX, 2, DEVICE).is_err());
        assert_eq!(
            Cluster::with_num_devices(u32::MAX, 8, DEVICE),
            Err(CoreError::TooManyDevices {
                num_devices: u32::MAX.into()
            })
        );
        let error = Cluster::from_nodes(vec![vec![DEVICE], vec![]]).unwrap_err();
        assert_eq!(error, CoreError::EmptyNode { node: 1 });
    }
}
