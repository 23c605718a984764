//! Links, and how they join the devices of a cluster.

use lengthwise_core::Seconds;

use super::checks::fraction;
use crate::HardwareError;

/// A link: bytes a second in each direction, and what every call over it pays once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    bandwidth_bytes_per_s: f64,
    latency: Seconds,
}

impl Link {
    /// A link of this bandwidth.
    ///
    /// # Errors
    ///
    /// The bandwidth is not finite and above 0.
    pub fn new(bandwidth_bytes_per_s: f64, latency: Seconds) -> Result<Self, HardwareError> {
        if bandwidth_bytes_per_s.is_finite() && bandwidth_bytes_per_s > 0.0 {
            Ok(Link {
                bandwidth_bytes_per_s,
                latency,
            })
        } else {
            Err(HardwareError::bad(
                "bandwidth_bytes_per_s",
                bandwidth_bytes_per_s,
                "it must be finite and above 0",
            ))
        }
    }

    /// Bytes a second, in each direction.
    pub const fn bandwidth_bytes_per_s(&self) -> f64 {
        self.bandwidth_bytes_per_s
    }

    /// The time that every call over it pays once.
    pub const fn latency(&self) -> Seconds {
        self.latency
    }
}

/// How devices reach each other.
///
/// ```text
/// device 0 --device link--+               +-- NIC 0 --+
/// device 1 --device link--+-- the node's -+           +-- network
///   ...                   |     switch    +-- NIC 1 --+
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClusterLinks {
    /// From each device to the switch of its node.
    pub device: Link,
    /// How many NICs a node has. Its devices use them in turn: device `i` that of index `i mod nics_per_node`.
    pub nics_per_node: u32,
    /// From each NIC to the network, which itself never is the bottleneck.
    pub nic: Link,
}

/// The part of the links' bandwidth that an all-to-all reaches: it sends many small pieces, and rearranges them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExchangeEfficiency {
    in_node: f64,
    across_nodes: f64,
}

impl ExchangeEfficiency {
    /// These parts of the bandwidth of devices' links and of NICs.
    ///
    /// # Errors
    ///
    /// One of them is not above 0 and at most 1.
    pub fn new(in_node: f64, across_nodes: f64) -> Result<Self, HardwareError> {
        Ok(ExchangeEfficiency {
            in_node: fraction("device_link.exchange_efficiency", in_node)?,
            across_nodes: fraction("nic.exchange_efficiency", across_nodes)?,
        })
    }

    /// Of devices' links.
    pub const fn in_node(&self) -> f64 {
        self.in_node
    }

    /// Of NICs.
    pub const fn across_nodes(&self) -> f64 {
        self.across_nodes
    }
}

/// The efficiencies that the bandwidths published with FlexSP imply for NVLink 3 at degrees 2, 4 and 8, and for 400
/// Gb/s InfiniBand at 16, 32 and 64: 0.21, 0.27 and 0.30, and 0.87, 0.75 and 0.72.
impl Default for ExchangeEfficiency {
    fn default() -> Self {
        ExchangeEfficiency {
            in_node: 0.26,
            across_nodes: 0.78,
        }
    }
}
