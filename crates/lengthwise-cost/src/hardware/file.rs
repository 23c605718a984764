//! Cluster files: a cluster as people write it down.

use std::collections::BTreeMap;

use lengthwise_core::limits::{BANDWIDTH_BYTES_PER_S, FLOPS_PER_S, NICS_PER_NODE};
use lengthwise_core::{Bytes, Cluster, Rank};
use serde::Deserialize;

use super::checks::{core_fraction, memory, rate, seconds, speed};
use super::{ClusterLinks, DeviceKind, DeviceModel, ExchangeEfficiency, Hardware, Link, Unlike};
use crate::HardwareError;

/// A cluster file as it is written, before its values are checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterFile {
    name: String,
    num_nodes: u32,
    devices_per_node: u32,
    host_memory_gib: Option<f64>,
    device: DeviceSection,
    device_link: Option<LinkSection>,
    nic: Option<NicSection>,
    #[serde(default)]
    other_devices: Vec<OtherDevices>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceSection {
    kind: Option<String>,
    peak_flops_per_s: Option<f64>,
    efficiency: Option<f64>,
    attention_efficiency: Option<f64>,
    memory_gib: Option<f64>,
    memory_fraction: Option<f64>,
    core_fraction: Option<f64>,
    host_bandwidth_bytes_per_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkSection {
    bandwidth_bytes_per_s: Option<f64>,
    exchange_efficiency: Option<f64>,
    #[serde(default)]
    latency_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NicSection {
    per_node: u32,
    bandwidth_bytes_per_s: f64,
    exchange_efficiency: Option<f64>,
    #[serde(default)]
    latency_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherDevices {
    #[serde(default)]
    ranks: Vec<u32>,
    #[serde(default)]
    nodes: Vec<u32>,
    speed: Option<f64>,
    memory_gib: Option<f64>,
}

impl ClusterFile {
    /// The cluster it describes.
    pub(super) fn hardware(self) -> Result<Hardware, HardwareError> {
        let num_devices = num_devices(self.num_nodes, self.devices_per_node)?;
        let kind: Option<DeviceKind> = self.device.kind.as_deref().map(str::parse).transpose()?;
        let mut device = self.device.model(kind)?;
        if let Some(gib) = self.host_memory_gib {
            let of_node = memory("host_memory_gib", gib)?;
            device = device.with_host_memory(Bytes(of_node.0 / u64::from(self.devices_per_node)));
        }
        let core_fraction = self.device.core_fraction.map(core_fraction).transpose()?;
        let of_nodes = self.device_link.as_ref();
        let of_nodes = of_nodes.and_then(|link| link.exchange_efficiency);
        let of_nics = self.nic.as_ref().and_then(|nic| nic.exchange_efficiency);
        let usual = ExchangeEfficiency::default();
        let exchange_efficiency = ExchangeEfficiency::new(
            of_nodes.unwrap_or(usual.in_node()),
            of_nics.unwrap_or(usual.across_nodes()),
        )?;
        let device_link = device_link(self.device_link, kind)?;
        let links = match self.nic {
            Some(nic) => nic.links(device_link)?,
            None if self.num_nodes > 1 => {
                let rule = format!("the {} nodes need NICs to reach each other", self.num_nodes);
                return Err(HardwareError::missing("nic", rule));
            }
            None => ClusterLinks {
                device: device_link,
                nics_per_node: 0,
                nic: device_link,
            },
        };
        let mut unlike = BTreeMap::new();
        for (index, others) in self.other_devices.iter().enumerate() {
            others.add_to(
                &mut unlike,
                index,
                num_devices,
                self.num_nodes,
                self.devices_per_node,
            )?;
        }
        Ok(Hardware {
            name: self.name,
            num_devices,
            devices_per_node: self.devices_per_node,
            device,
            core_fraction,
            links,
            exchange_efficiency,
            unlike,
        })
    }
}

/// The devices of all nodes together.
pub(super) fn num_devices(num_nodes: u32, devices_per_node: u32) -> Result<u32, HardwareError> {
    for (key, value) in [
        ("num_nodes", num_nodes),
        ("devices_per_node", devices_per_node),
    ] {
        if value == 0 {
            return Err(HardwareError::bad(key, value, "it must be at least 1"));
        }
    }
    num_nodes
        .checked_mul(devices_per_node)
        .filter(|&num_devices| num_devices <= Cluster::MAX_DEVICES)
        .ok_or_else(|| {
            let rule = format!(
                "with {devices_per_node} devices each that is more than the {} devices a cluster may have",
                Cluster::MAX_DEVICES
            );
            HardwareError::bad("num_nodes", num_nodes, rule)
        })
}

fn device_link(
    section: Option<LinkSection>,
    kind: Option<DeviceKind>,
) -> Result<Link, HardwareError> {
    let key = "device_link.bandwidth_bytes_per_s";
    let section = section.unwrap_or(LinkSection {
        bandwidth_bytes_per_s: None,
        exchange_efficiency: None,
        latency_s: 0.0,
    });
    let bandwidth = section
        .bandwidth_bytes_per_s
        .or_else(|| kind.map(DeviceKind::link_bandwidth_bytes_per_s))
        .ok_or_else(|| HardwareError::missing(key, "only devices of a known kind have a link"))?;
    Link::new(
        rate(key, bandwidth, BANDWIDTH_BYTES_PER_S)?,
        seconds("device_link.latency_s", section.latency_s)?,
    )
}

impl DeviceSection {
    /// The figures of its kind, each replaced where one is written.
    fn model(&self, kind: Option<DeviceKind>) -> Result<DeviceModel, HardwareError> {
        let rule = "only devices of a known kind have one";
        let missing = |key| HardwareError::missing(key, rule);
        let preset = kind.map(DeviceKind::model);
        let peak = match (self.peak_flops_per_s, &preset) {
            (Some(peak), _) => rate("device.peak_flops_per_s", peak, FLOPS_PER_S)?,
            (None, Some(preset)) => preset.peak_flops_per_s(),
            (None, None) => return Err(missing("device.peak_flops_per_s")),
        };
        let bytes = match (self.memory_gib, &preset) {
            (Some(gib), _) => memory("device.memory_gib", gib)?,
            (None, Some(preset)) => preset.memory(),
            (None, None) => return Err(missing("device.memory_gib")),
        };
        let mut device = DeviceModel::new(peak, bytes)?;
        if let Some(preset) = preset {
            device.host_bandwidth_bytes_per_s = preset.host_bandwidth_bytes_per_s;
            device.host_memory = preset.host_memory;
        }
        if let Some(bandwidth) = self.host_bandwidth_bytes_per_s {
            device = device.with_host_bandwidth(bandwidth)?;
        }
        device
            .with_efficiency(
                self.efficiency.unwrap_or(device.efficiency()),
                self.attention_efficiency
                    .unwrap_or(device.attention_efficiency()),
            )?
            .with_memory(
                bytes,
                self.memory_fraction.unwrap_or(device.memory_fraction()),
            )
    }
}

impl NicSection {
    fn links(&self, device: Link) -> Result<ClusterLinks, HardwareError> {
        if !NICS_PER_NODE.holds(self.per_node.into()) {
            let rule = format!("a node that has NICs has {NICS_PER_NODE} of them");
            return Err(HardwareError::bad("nic.per_node", self.per_node, rule));
        }
        Ok(ClusterLinks {
            device,
            nics_per_node: self.per_node,
            nic: Link::new(
                rate(
                    "nic.bandwidth_bytes_per_s",
                    self.bandwidth_bytes_per_s,
                    BANDWIDTH_BYTES_PER_S,
                )?,
                seconds("nic.latency_s", self.latency_s)?,
            )?,
        })
    }
}

impl OtherDevices {
    /// Notes what is unlike of every rank it names.
    fn add_to(
        &self,
        unlike: &mut BTreeMap<Rank, Unlike>,
        index: usize,
        num_devices: u32,
        num_nodes: u32,
        devices_per_node: u32,
    ) -> Result<(), HardwareError> {
        let key = |name: &str| format!("other_devices[{index}].{name}");
        let mut ranks = Vec::new();
        for &rank in &self.ranks {
            if rank >= num_devices {
                let rule = format!("ranks count from 0 to {}", num_devices - 1);
                return Err(HardwareError::bad(key("ranks"), rank, rule));
            }
            ranks.push(Rank(rank));
        }
        for &node in &self.nodes {
            if node >= num_nodes {
                let rule = format!("nodes count from 0 to {}", num_nodes - 1);
                return Err(HardwareError::bad(key("nodes"), node, rule));
            }
            let first = node * devices_per_node;
            ranks.extend((first..first + devices_per_node).map(Rank));
        }
        if ranks.is_empty() {
            let rule = "it or nodes says which devices are meant";
            return Err(HardwareError::missing(key("ranks"), rule));
        }
        if self.speed.is_none() && self.memory_gib.is_none() {
            let rule = "it or memory_gib says how these devices differ";
            return Err(HardwareError::missing(key("speed"), rule));
        }
        for rank in ranks {
            let of_rank = unlike.entry(rank).or_default();
            let twice = |name: &str, value: f64| {
                let rule = format!("rank {rank} was already given one");
                HardwareError::bad(key(name), value, rule)
            };
            if let Some(value) = self.speed {
                let speed = speed(&key("speed"), value)?;
                if of_rank.speed.replace(speed).is_some() {
                    return Err(twice("speed", value));
                }
            }
            if let Some(value) = self.memory_gib {
                let memory = memory(&key("memory_gib"), value)?;
                if of_rank.memory.replace(memory).is_some() {
                    return Err(twice("memory_gib", value));
                }
            }
        }
        Ok(())
    }
}
