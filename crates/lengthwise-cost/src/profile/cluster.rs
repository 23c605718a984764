//! The devices that a profile was measured on.

use lengthwise_core::limits::DEVICE_MEMORY;
use lengthwise_core::{Bytes, Cluster, CoreError, Device, Speed};
use serde::{Deserialize, Serialize};

use crate::ProfileError;

/// The devices a profile was measured on: equal ones, or nodes listed one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "ClusterKeys")]
pub enum ClusterProfile {
    /// Equal devices.
    Equal {
        /// All of them.
        num_devices: u32,
        /// On each node; the last takes what is left.
        devices_per_node: u32,
        /// Of each device.
        memory_gib: f64,
        /// Of each device, its share of what its node's host lends to activations; without limit where it is left out.
        host_share_gib: Option<f64>,
        /// Processor cores that the devices share, where they are ranks of one machine.
        num_cores: Option<u32>,
    },
    /// Nodes of different kinds, or with different devices.
    Mixed {
        /// Equal nodes in a row, kind by kind.
        nodes: Vec<NodeProfile>,
    },
}

/// The keys of both, of which those of one have to be there. (Of an untagged enum's keys, errors would name none.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterKeys {
    num_devices: Option<u32>,
    devices_per_node: Option<u32>,
    memory_gib: Option<f64>,
    host_share_gib: Option<f64>,
    num_cores: Option<u32>,
    nodes: Option<Vec<NodeProfile>>,
}

impl TryFrom<ClusterKeys> for ClusterProfile {
    type Error = String;

    fn try_from(keys: ClusterKeys) -> Result<Self, String> {
        let ClusterKeys {
            num_devices,
            devices_per_node,
            memory_gib,
            host_share_gib,
            num_cores,
            nodes,
        } = keys;
        let Some(nodes) = nodes else {
            let missing = |key: &str| format!("missing field `{key}`");
            return Ok(ClusterProfile::Equal {
                num_devices: num_devices.ok_or_else(|| missing("num_devices"))?,
                devices_per_node: devices_per_node.ok_or_else(|| missing("devices_per_node"))?,
                memory_gib: memory_gib.ok_or_else(|| missing("memory_gib"))?,
                host_share_gib,
                num_cores,
            });
        };
        let of_equal = [
            ("num_devices", num_devices.is_some()),
            ("devices_per_node", devices_per_node.is_some()),
            ("memory_gib", memory_gib.is_some()),
            ("host_share_gib", host_share_gib.is_some()),
            ("num_cores", num_cores.is_some()),
        ];
        match of_equal.into_iter().find(|&(_, is_there)| is_there) {
            Some((key, _)) => Err(format!(
                "{key} is beside nodes, which say of each what they have"
            )),
            None => Ok(ClusterProfile::Mixed { nodes }),
        }
    }
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
    /// Of each device, its share of what its node's host lends to activations; without limit where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_share_gib: Option<f64>,
    /// Of each device, beside the one that times were measured on.
    #[serde(default = "nominal")]
    pub speed: f64,
    /// Devices of each of these nodes that are unlike the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_devices: Vec<DeviceProfile>,
}

/// A device of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Its place on the node, counted from 0.
    pub place: u32,
    /// Its memory.
    pub memory_gib: f64,
    /// Its share of what its node's host lends to activations; without limit where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_share_gib: Option<f64>,
    /// Its speed, beside the one that times were measured on.
    #[serde(default = "nominal")]
    pub speed: f64,
}

const GIB: f64 = (1u64 << 30) as f64;

fn nominal() -> f64 {
    Speed::NOMINAL.get()
}

impl ClusterProfile {
    /// These nodes of equal devices, which share `num_cores` where they are ranks of one machine; speeds are beside their own.
    pub fn equal(
        num_devices: u32,
        devices_per_node: u32,
        device: Device,
        num_cores: Option<u32>,
    ) -> Self {
        ClusterProfile::Equal {
            num_devices,
            devices_per_node,
            memory_gib: in_gib(device.memory()),
            host_share_gib: host_share_gib(device),
            num_cores,
        }
    }

    /// The nodes of a cluster as they are.
    pub fn mixed(cluster: &Cluster) -> Self {
        let mut nodes: Vec<NodeProfile> = Vec::new();
        for ranks in (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node)) {
            let node =
                NodeProfile::of(&cluster.devices()[ranks.start as usize..ranks.end as usize]);
            match nodes.last_mut() {
                Some(last)
                    if (NodeProfile {
                        num_nodes: 1,
                        ..last.clone()
                    }) == node =>
                {
                    last.num_nodes += 1;
                }
                _ => nodes.push(node),
            }
        }
        ClusterProfile::Mixed { nodes }
    }

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
                host_share_gib,
                ..
            } => {
                let keys = DeviceKeys {
                    memory: "cluster.memory_gib",
                    host_memory: "cluster.host_share_gib",
                };
                let device = keys.device(*memory_gib, *host_share_gib, Speed::NOMINAL)?;
                let is_asked = num_devices.is_some();
                let num_devices = num_devices.unwrap_or(*measured);
                let cluster = Cluster::with_num_devices(num_devices, *devices_per_node, device);
                cluster.map_err(|error| match devices_per_node {
                    0 => bad("cluster.devices_per_node", error),
                    // The file is not to blame for what was asked for.
                    _ if is_asked => error.into(),
                    _ => bad("cluster.num_devices", error),
                })
            }
            ClusterProfile::Mixed { nodes } => {
                let listed = nodes.iter().map(|kind| {
                    u128::from(kind.num_nodes) * u128::from(kind.devices_per_node.max(1))
                });
                let listed: u128 = listed.sum();
                if listed > Cluster::MAX_DEVICES.into() {
                    let num_devices = listed;
                    let error = CoreError::TooManyDevices { num_devices };
                    return Err(bad("cluster.nodes", error));
                }
                let mut left = num_devices.map_or(u64::MAX, u64::from);
                let mut list = Vec::new();
                for kind in nodes {
                    let devices = kind.devices()?;
                    for _ in 0..kind.num_nodes {
                        let count = left.min(kind.devices_per_node.into());
                        left -= count;
                        if count > 0 || kind.devices_per_node == 0 {
                            list.push(devices[..count as usize].to_vec());
                        }
                    }
                }
                if let Some(asked) = num_devices.filter(|_| left > 0) {
                    let num_devices = u64::from(asked) - left;
                    return Err(ProfileError::TooFewDevices { asked, num_devices });
                }
                Cluster::from_nodes(list).map_err(|error| bad("cluster.nodes", error))
            }
        }
    }
}

impl NodeProfile {
    /// One node of these devices, of which there is at least one.
    fn of(devices: &[Device]) -> Self {
        let first = devices[0];
        let others = (0..).zip(devices).filter(|(_, device)| **device != first);
        NodeProfile {
            num_nodes: 1,
            devices_per_node: devices.len() as u32,
            memory_gib: in_gib(first.memory()),
            host_share_gib: host_share_gib(first),
            speed: first.speed().get(),
            other_devices: others
                .map(|(place, device)| DeviceProfile {
                    place,
                    memory_gib: in_gib(device.memory()),
                    host_share_gib: host_share_gib(*device),
                    speed: device.speed().get(),
                })
                .collect(),
        }
    }

    /// The devices of one node.
    fn devices(&self) -> Result<Vec<Device>, ProfileError> {
        let keys = DeviceKeys {
            memory: "cluster.nodes.memory_gib",
            host_memory: "cluster.nodes.host_share_gib",
        };
        let usual_speed = speed("cluster.nodes.speed", self.speed)?;
        let usual = keys.device(self.memory_gib, self.host_share_gib, usual_speed)?;
        let keys = DeviceKeys {
            memory: "cluster.nodes.other_devices.memory_gib",
            host_memory: "cluster.nodes.other_devices.host_share_gib",
        };
        let mut devices = vec![usual; self.devices_per_node as usize];
        for other in &self.other_devices {
            let place = devices.get_mut(other.place as usize);
            *place.ok_or(ProfileError::UnknownPlace {
                place: other.place,
                devices_per_node: self.devices_per_node,
            })? = keys.device(
                other.memory_gib,
                other.host_share_gib,
                speed("cluster.nodes.other_devices.speed", other.speed)?,
            )?;
        }
        Ok(devices)
    }
}

/// The keys of a device's memories.
struct DeviceKeys {
    memory: &'static str,
    host_memory: &'static str,
}

impl DeviceKeys {
    fn device(
        &self,
        memory_gib: f64,
        host_share_gib: Option<f64>,
        speed: Speed,
    ) -> Result<Device, ProfileError> {
        let device = Device::new(gib(self.memory, memory_gib)?, speed);
        let host_memory = host_share_gib.map(|value| gib(self.host_memory, value));
        Ok(host_memory
            .transpose()?
            .map_or(device, |host_memory| device.with_host_memory(host_memory)))
    }
}

fn in_gib(bytes: Bytes) -> f64 {
    bytes.as_f64() / GIB
}

/// What is written of a device's share of its host.
fn host_share_gib(device: Device) -> Option<f64> {
    device.limited_host_memory().map(in_gib)
}

fn speed(key: &'static str, value: f64) -> Result<Speed, ProfileError> {
    Speed::new(value).map_err(|error| bad(key, error))
}

fn bad(key: &'static str, error: CoreError) -> ProfileError {
    ProfileError::BadCluster { key, error }
}

fn gib(key: &'static str, value: f64) -> Result<Bytes, ProfileError> {
    let bytes = Bytes::from_f64_ceil(value * GIB).filter(|&bytes| bytes <= DEVICE_MEMORY);
    bytes.ok_or(ProfileError::BadMemory { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(mib: u64, speed: f64) -> Device {
        Device::new(Bytes::from_mib(mib), Speed::new(speed).unwrap())
    }

    /// A cluster, and what is read from the text that it was written as.
    fn read_again(nodes: Vec<Vec<Device>>) -> (Cluster, Cluster) {
        let cluster = Cluster::from_nodes(nodes).unwrap();
        let text = toml::to_string(&ClusterProfile::mixed(&cluster)).unwrap();
        let again: ClusterProfile = toml::from_str(&text).unwrap();
        (again.cluster(None).unwrap(), cluster)
    }

    #[test]
    fn nodes_are_read_as_they_were_written() {
        let (fast, slow) = (device(1000, 1.0), device(1000, 0.5));
        let on_host = |mib| fast.with_host_memory(Bytes::from_mib(mib));
        for nodes in [
            vec![vec![fast, slow]],
            vec![vec![fast; 2], vec![slow; 2], vec![slow; 2], vec![fast; 1]],
            vec![
                vec![slow, fast, device(77, 1.0)],
                vec![slow, fast, device(77, 1.0)],
            ],
            vec![vec![on_host(500), on_host(500), on_host(0), fast]; 2],
        ] {
            let (again, cluster) = read_again(nodes);
            assert_eq!(again, cluster);
        }
    }

    #[test]
    fn keys_that_are_misspelt_missing_or_of_another_type_are_named() {
        for (text, expected) in [
            (
                "num_devices = 8\nhost_share_gb = 1.0",
                "unknown field `host_share_gb`",
            ),
            (
                "num_devices = \"8\"",
                "invalid type: string \"8\", expected u32",
            ),
            (
                "num_devices = 8\nmemory_gib = 1.0",
                "missing field `devices_per_node`",
            ),
            ("", "missing field `num_devices`"),
            ("nodes = []\nnum_cores = 2", "num_cores is beside nodes"),
            (
                "nodes = [{ num_nodes = 1 }]",
                "missing field `devices_per_node`",
            ),
        ] {
            let refused = toml::from_str::<ClusterProfile>(text).unwrap_err();
            let message = refused.message();
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_device_beyond_its_node_is_refused() {
        let node = NodeProfile {
            other_devices: vec![DeviceProfile {
                place: 2,
                memory_gib: 1.0,
                host_share_gib: None,
                speed: 0.5,
            }],
            ..NodeProfile::of(&[device(1, 1.0); 2])
        };
        assert_eq!(
            node.devices().unwrap_err().to_string(),
            "cluster.nodes.other_devices has place 2; nodes have 2 devices, places 0 to 1"
        );
    }

    #[test]
    fn what_is_wrong_with_devices_is_named_by_its_key() {
        for (text, key) in [
            (
                "num_devices = 0\ndevices_per_node = 8\nmemory_gib = 1.0",
                "cluster.num_devices: ",
            ),
            (
                "num_devices = 4000000000\ndevices_per_node = 8\nmemory_gib = 1.0",
                "cluster.num_devices: ",
            ),
            (
                "num_devices = 8\ndevices_per_node = 0\nmemory_gib = 1.0",
                "cluster.devices_per_node: ",
            ),
            (
                "num_devices = 8\ndevices_per_node = 8\nmemory_gib = -1.0",
                "cluster.memory_gib is -1; ",
            ),
            (
                "num_devices = 8\ndevices_per_node = 8\nmemory_gib = 1.0\nhost_share_gib = -1.0",
                "cluster.host_share_gib is -1; ",
            ),
            (
                "nodes = [{ num_nodes = 1, devices_per_node = 0, memory_gib = 1.0 }]",
                "cluster.nodes: ",
            ),
            (
                "nodes = [{ num_nodes = 4000000000, devices_per_node = 8, memory_gib = 1.0 }]",
                "cluster.nodes: ",
            ),
            (
                "nodes = [{ num_nodes = 1, devices_per_node = 1, memory_gib = 1.0, speed = 0.0 }]",
                "cluster.nodes.speed: ",
            ),
            (
                "nodes = [{ num_nodes = 1, devices_per_node = 1, memory_gib = 1.0, other_devices = [{ place = 0, \
                 memory_gib = nan }] }]",
                "cluster.nodes.other_devices.memory_gib is NaN; ",
            ),
            (
                "nodes = [{ num_nodes = 1, devices_per_node = 1, memory_gib = 1.0, other_devices = [{ place = 0, \
                 memory_gib = 1.0, speed = -1.0 }] }]",
                "cluster.nodes.other_devices.speed: ",
            ),
        ] {
            let cluster: ClusterProfile = toml::from_str(text).unwrap();
            let message = cluster.cluster(None).unwrap_err().to_string();
            assert!(message.starts_with(key), "{text}: {message}");
        }
    }
}
