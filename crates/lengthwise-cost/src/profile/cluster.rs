//! The devices that a profile was measured on.

use lengthwise_core::{Bytes, Cluster, Device, Speed};
use serde::{Deserialize, Serialize};

use crate::ProfileError;

/// The devices a profile was measured on: equal ones, or nodes listed one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ClusterProfile {
    /// Equal devices.
    Equal {
        /// All of them.
        num_devices: u32,
        /// On each node; the last takes what is left.
        devices_per_node: u32,
        /// Of each device.
        memory_gib: f64,
        /// Processor cores that the devices share, where they are ranks of one machine.
        num_cores: Option<u32>,
    },
    /// Nodes of different kinds.
    Mixed {
        /// Equal nodes in a row, kind by kind.
        nodes: Vec<NodeProfile>,
    },
}

/// Equal nodes in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeProfile {
    /// How many of them.
    pub num_nodes: u32,
    /// On each.
    pub devices_per_node: u32,
    /// Of each device.
    pub memory_gib: f64,
    /// Of each device, beside the one that times were measured on.
    #[serde(default = "nominal")]
    pub speed: f64,
}

fn nominal() -> f64 {
    Speed::NOMINAL.get()
}

impl ClusterProfile {
    /// The cluster, or as many of its devices as asked for: more of equal ones, fewer of any.
    ///
    /// # Errors
    ///
    /// No device, a value out of range, or more devices than a list of nodes has.
    pub fn cluster(&self, num_devices: Option<u32>) -> Result<Cluster, ProfileError> {
        match self {
            ClusterProfile::Equal {
                num_devices: measured,
                devices_per_node,
                memory_gib,
                ..
            } => {
                let device = Device::new(gib("cluster.memory_gib", *memory_gib)?, Speed::NOMINAL);
                let num_devices = num_devices.unwrap_or(*measured);
                Ok(Cluster::with_num_devices(
                    num_devices,
                    *devices_per_node,
                    device,
                )?)
            }
            ClusterProfile::Mixed { nodes } => {
                let mut left = num_devices.map_or(u64::MAX, u64::from);
                let mut list = Vec::new();
                for kind in nodes {
                    let memory = gib("cluster.nodes.memory_gib", kind.memory_gib)?;
                    let device = Device::new(memory, Speed::new(kind.speed)?);
                    for _ in 0..kind.num_nodes {
                        let count = left.min(kind.devices_per_node.into());
                        left -= count;
                        if count > 0 || kind.devices_per_node == 0 {
                            list.push(vec![device; count as usize]);
                        }
                    }
                }
                if let Some(asked) = num_devices.filter(|_| left > 0) {
                    let num_devices = u64::from(asked) - left;
                    return Err(ProfileError::TooFewDevices { asked, num_devices });
                }
                Ok(Cluster::from_nodes(list)?)
            }
        }
    }
}

fn gib(key: &'static str, value: f64) -> Result<Bytes, ProfileError> {
    let bytes = value * (1u64 << 30) as f64;
    Bytes::from_f64_ceil(bytes).ok_or(ProfileError::BadMemory { key, value })
}
