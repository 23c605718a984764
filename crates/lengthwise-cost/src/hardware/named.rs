//! Clusters known by name.

use lengthwise_core::Seconds;

use super::file::num_devices;
use super::{ClusterLinks, DeviceKind, Hardware, Link};
use crate::HardwareError;

/// Latency of a call over a device's link: 8.4 us for the Simple protocol and 3.4 us for NVLink, of NCCL's tuning table
/// (`graph/tuning.cc`).
const DEVICE_LATENCY_S: f64 = 12e-6;

/// The same over a NIC: 8.4 us and 9.6 us.
const NIC_LATENCY_S: f64 = 18e-6;

impl Hardware {
    /// The cluster of a name, `DEVICE-NODESxDEVICES`: so many nodes of so many devices of a [`DeviceKind`].
    ///
    /// Nodes are like their vendor's own, with a NIC for each device:
    ///
    /// | node | NICs | source |
    /// | --- | --- | --- |
    /// | `a100-40`, `a100-80` | 200 Gb/s each, HDR InfiniBand | "NVIDIA DGX A100" data sheet |
    /// | `h100-80`, `h200`, `b200` | 400 Gb/s each, NDR InfiniBand | those of DGX H100, DGX H200 and DGX B200 |
    ///
    /// ```
    /// use lengthwise_cost::Hardware;
    ///
    /// let hardware = Hardware::named("h100-4x8")?;
    /// assert_eq!(hardware.num_devices(), 32);
    /// assert_eq!(hardware.links().nics_per_node, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The name is none of these, could be one of several devices, or there is no device or there are too many.
    pub fn named(name: &str) -> Result<Self, HardwareError> {
        let unknown = || HardwareError::UnknownCluster {
            name: name.to_owned(),
        };
        let (device, size) = name.rsplit_once('-').ok_or_else(unknown)?;
        let (num_nodes, devices_per_node) = size.split_once('x').ok_or_else(unknown)?;
        let num_nodes = count(num_nodes).ok_or_else(unknown)?;
        let devices_per_node = count(devices_per_node).ok_or_else(unknown)?;
        let kind: DeviceKind = device.parse().map_err(|error| match error {
            HardwareError::AmbiguousDevice { .. } => error,
            _ => unknown(),
        })?;
        let num_devices = num_devices(num_nodes, devices_per_node)?;
        let link = |bandwidth, latency| Link::new(bandwidth, Seconds::new(latency)?);
        let links = ClusterLinks {
            device: link(kind.link_bandwidth_bytes_per_s(), DEVICE_LATENCY_S)?,
            nics_per_node: devices_per_node,
            nic: link(kind.nic_bandwidth_bytes_per_s(), NIC_LATENCY_S)?,
        };
        Hardware::new(name, num_devices, devices_per_node, kind.model(), links)
    }
}

/// A number in digits alone, where a sign is none.
fn count(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_makes_clusters_of_the_named_size() {
        for kind in DeviceKind::ALL {
            for (num_nodes, devices_per_node) in [(1, 1), (1, 8), (8, 8), (32, 4), (131_072, 8)] {
                let name = format!("{kind}-{num_nodes}x{devices_per_node}");
                let hardware = Hardware::named(&name).unwrap();
                assert_eq!(hardware.name(), name);
                assert_eq!(*hardware.device(), kind.model());
                let cluster = hardware.cluster().unwrap();
                assert_eq!(cluster.num_nodes(), num_nodes as usize, "{name}");
                assert_eq!(
                    cluster.num_devices(),
                    num_nodes * devices_per_node,
                    "{name}"
                );
                assert_eq!(hardware.links().nics_per_node, devices_per_node);
            }
        }
    }

    #[test]
    fn clusters_of_one_node_can_grow() {
        let hardware = Hardware::named("b200-1x8").unwrap();
        assert_eq!(hardware.with_num_devices(20).unwrap().num_devices(), 20);
    }

    #[test]
    fn a_name_of_no_cluster_is_one_error() {
        for name in [
            "",
            "h100",
            "h100-8",
            "h100-x8",
            "h100-8x",
            "h100-+8x8",
            "h100-8x8x8",
            "8x8",
            "-8x8",
            "h1000-8x8",
            "h100-99999999999x8",
        ] {
            let error = Hardware::named(name).unwrap_err();
            assert!(
                matches!(error, HardwareError::UnknownCluster { .. }),
                "{name}: {error}"
            );
        }
        let told = [
            "h10-8x8",
            "a100-8x8",
            "h100-0x8",
            "h100-8x0",
            "h100-1000000x8",
        ]
        .map(|name| Hardware::named(name).unwrap_err().to_string());
        insta::assert_snapshot!(told.join("\n"), @r"
        there is no cluster h10-8x8; known by name are DEVICE-NODESxDEVICES, such as h100-8x8, of a100-40, a100-80, h100-80, h200, b200
        device a100 is sold with more than one memory, as a100-40 and a100-80
        num_nodes is 0; it must be at least 1
        devices_per_node is 0; it must be at least 1
        num_nodes is 1000000; with 8 devices each that is more than the 1048576 devices a cluster may have
        ");
    }
}
