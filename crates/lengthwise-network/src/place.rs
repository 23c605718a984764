//! The places of links.

use std::fmt;

use lengthwise_core::Rank;

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPlace {
    /// Between a device and its node's switch.
    Device {
        /// The device's rank.
        rank: Rank,
    },
    /// Between a node and the network.
    Nic {
        /// The node.
        node: usize,
        /// Which of the node's.
        nic: u32,
    },
}

impl fmt::Display for LinkPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkPlace::Device { rank } => write!(f, "link of rank {rank}"),
            LinkPlace::Nic { node, nic } => write!(f, "NIC {nic} of node {node}"),
        }
    }
}
