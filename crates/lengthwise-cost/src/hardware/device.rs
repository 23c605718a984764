//! The speed and memory of a device, and the kinds of device that are known by name.

use std::fmt;
use std::str::FromStr;

use lengthwise_core::Bytes;
use lengthwise_core::limits::{BANDWIDTH_BYTES_PER_S, FLOPS_PER_S};

use super::checks::{fraction, rate};
use crate::HardwareError;

/// Devices known by name, with the figures of their vendor's data sheets.
///
/// | name | dense bf16 | memory | link, each direction | to the host, each direction | source |
/// | --- | --- | --- | --- | --- | --- |
/// | `a100-40` | 312 TFLOP/s | 40 GiB | 300 GB/s | 32 GB/s | "NVIDIA A100 Tensor Core GPU" data sheet, SXM4 |
/// | `a100-80` | 312 TFLOP/s | 80 GiB | 300 GB/s | 32 GB/s | the same |
/// | `h100-80` | 989 TFLOP/s | 80 GiB | 450 GB/s | 64 GB/s | "NVIDIA H100 Tensor Core GPU" data sheet, SXM5 |
/// | `h200` | 989 TFLOP/s | 141 GB | 450 GB/s | 64 GB/s | "NVIDIA H200 Tensor Core GPU" data sheet, SXM5 |
/// | `b200` | 2,250 TFLOP/s | 180 GB | 900 GB/s | 64 GB/s | "NVIDIA DGX B200" data sheet, an eighth of its figures |
///
/// The sheets of H100 and later give FLOP/s with structured sparsity, which is twice the dense figure here, and all of
/// them the bandwidth of NVLink and PCIe in both directions together. The memory of A100 and H100 is in units of 2^30 bytes, though
/// the sheets write GB.
///
/// Where a name without its memory means one device only, it is read as well: `h100`, but not `a100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// NVIDIA A100 SXM4 with 40 GB.
    A100With40Gb,
    /// NVIDIA A100 SXM4 with 80 GB.
    A100With80Gb,
    /// NVIDIA H100 SXM5 with 80 GB.
    H100With80Gb,
    /// NVIDIA H200 SXM5.
    H200,
    /// NVIDIA B200.
    B200,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [DeviceKind; 5] = [
        DeviceKind::A100With40Gb,
        DeviceKind::A100With80Gb,
        DeviceKind::H100With80Gb,
        DeviceKind::H200,
        DeviceKind::B200,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::A100With40Gb => "a100-40",
            DeviceKind::A100With80Gb => "a100-80",
            DeviceKind::H100With80Gb => "h100-80",
            DeviceKind::H200 => "h200",
            DeviceKind::B200 => "b200",
        }
    }

    /// The same without its memory; other devices may have it too.
    pub fn short_name(self) -> &'static str {
        let name = self.name();
        name.split_once('-').map_or(name, |(short, _)| short)
    }

    /// Its figures.
    pub const fn model(self) -> DeviceModel {
        let (peak_flops_per_s, memory) = match self {
            DeviceKind::A100With40Gb => (312e12, 40 << 30),
            DeviceKind::A100With80Gb => (312e12, 80 << 30),
            DeviceKind::H100With80Gb => (989e12, 80 << 30),
            DeviceKind::H200 => (989e12, 141_000_000_000),
            DeviceKind::B200 => (2250e12, 180_000_000_000),
        };
        DeviceModel {
            peak_flops_per_s,
            efficiency: DeviceModel::EFFICIENCY,
            attention_efficiency: DeviceModel::ATTENTION_EFFICIENCY,
            memory: Bytes(memory),
            memory_fraction: DeviceModel::MEMORY_FRACTION,
            host_bandwidth_bytes_per_s: Some(self.host_bandwidth_bytes_per_s()),
            host_memory: Some(self.host_memory()),
        }
    }

    /// The bandwidth of its link to host memory, in each direction: PCIe of 16 lanes, generation 4 for A100 and 5 since.
    pub const fn host_bandwidth_bytes_per_s(self) -> f64 {
        match self {
            DeviceKind::A100With40Gb | DeviceKind::A100With80Gb => 32e9,
            DeviceKind::H100With80Gb | DeviceKind::H200 | DeviceKind::B200 => 64e9,
        }
    }

    /// Its share of the host memory of its vendor's nodes, of which nine tenths are lent to training. DGX A100 with
    /// 40 GB a device has 1 TiB for 8 devices; that with 80 GB, DGX H100, DGX H200 and DGX B200 have 2 TiB.
    const fn host_memory(self) -> Bytes {
        let of_node: u64 = match self {
            DeviceKind::A100With40Gb => 1 << 40,
            _ => 2 << 40,
        };
        Bytes(of_node / 10 * 9 / 8)
    }

    /// The bandwidth of its link to the node's switch, in each direction.
    pub const fn link_bandwidth_bytes_per_s(self) -> f64 {
        match self {
            DeviceKind::A100With40Gb | DeviceKind::A100With80Gb => 300e9,
            DeviceKind::H100With80Gb | DeviceKind::H200 => 450e9,
            DeviceKind::B200 => 900e9,
        }
    }

    /// The bandwidth of each NIC of its vendor's nodes in each direction; [`Hardware::named`](super::Hardware::named)
    /// says where that is from.
    pub(super) const fn nic_bandwidth_bytes_per_s(self) -> f64 {
        match self {
            DeviceKind::A100With40Gb | DeviceKind::A100With80Gb => 25e9,
            DeviceKind::H100With80Gb | DeviceKind::H200 | DeviceKind::B200 => 50e9,
        }
    }

    /// The names of all, as a list to read.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = HardwareError;

    fn from_str(name: &str) -> Result<Self, HardwareError> {
        let mut meant = Self::ALL.to_vec();
        meant.retain(|kind| kind.name() == name || kind.short_name() == name);
        match *meant {
            [kind] => Ok(kind),
            [] => {
                let rule = format!("the kinds of device known by name are {}", Self::names());
                Err(HardwareError::bad("device.kind", format!("{name:?}"), rule))
            }
            _ => {
                let meant: Vec<_> = meant.into_iter().map(Self::name).collect();
                Err(HardwareError::AmbiguousDevice {
                    name: name.to_owned(),
                    meant: meant.join(" and "),
                })
            }
        }
    }
}

/// The speed and memory of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceModel {
    pub(super) peak_flops_per_s: f64,
    pub(super) efficiency: f64,
    pub(super) attention_efficiency: f64,
    pub(super) memory: Bytes,
    pub(super) memory_fraction: f64,
    pub(super) host_bandwidth_bytes_per_s: Option<f64>,
    pub(super) host_memory: Option<Bytes>,
}

impl DeviceModel {
    /// The part of its peak that a device reaches in matrix products, where nothing else is known: what the costs
    /// published with FlexSP imply for A100s, on the average of three models from 7B to 30B.
    pub const EFFICIENCY: f64 = 0.76;

    /// The same for causal attention, forward and backward.
    pub const ATTENTION_EFFICIENCY: f64 = 0.55;

    /// The part of its memory that a device lends to training, where nothing else is said: the driver, communication
    /// buffers and what an allocator can't use take the rest.
    pub const MEMORY_FRACTION: f64 = 0.9;

    /// A device of this peak and memory, with everything else as where nothing is said: without a link to a host.
    ///
    /// # Errors
    ///
    /// The peak is not finite, or below 1.
    pub fn new(peak_flops_per_s: f64, memory: Bytes) -> Result<Self, HardwareError> {
        Ok(DeviceModel {
            peak_flops_per_s: rate("device.peak_flops_per_s", peak_flops_per_s, FLOPS_PER_S)?,
            efficiency: Self::EFFICIENCY,
            attention_efficiency: Self::ATTENTION_EFFICIENCY,
            memory,
            memory_fraction: Self::MEMORY_FRACTION,
            host_bandwidth_bytes_per_s: None,
            host_memory: None,
        })
    }

    /// The same device with these efficiencies in matrix products and in attention.
    ///
    /// # Errors
    ///
    /// One of them is not above 0 and at most 1.
    pub fn with_efficiency(mut self, products: f64, attention: f64) -> Result<Self, HardwareError> {
        self.efficiency = fraction("device.efficiency", products)?;
        self.attention_efficiency = fraction("device.attention_efficiency", attention)?;
        Ok(self)
    }

    /// The same device with so much memory, of which it lends this part to training.
    ///
    /// # Errors
    ///
    /// The part is not above 0 and at most 1.
    pub fn with_memory(mut self, memory: Bytes, lent: f64) -> Result<Self, HardwareError> {
        self.memory = memory;
        self.memory_fraction = fraction("device.memory_fraction", lent)?;
        Ok(self)
    }

    /// The same device with a link of this bandwidth to its host, each direction.
    ///
    /// # Errors
    ///
    /// The bandwidth is not finite, or below 1.
    pub fn with_host_bandwidth(mut self, bytes_per_s: f64) -> Result<Self, HardwareError> {
        let key = "device.host_bandwidth_bytes_per_s";
        self.host_bandwidth_bytes_per_s = Some(rate(key, bytes_per_s, BANDWIDTH_BYTES_PER_S)?);
        Ok(self)
    }

    /// The same device with this share of its host's memory.
    #[must_use]
    pub const fn with_host_memory(mut self, host_memory: Bytes) -> Self {
        self.host_memory = Some(host_memory);
        self
    }

    /// FLOP a second at best, in the data type that is trained in and counting a multiply-add as two.
    pub const fn peak_flops_per_s(&self) -> f64 {
        self.peak_flops_per_s
    }

    /// The part of the peak that matrix products reach.
    pub const fn efficiency(&self) -> f64 {
        self.efficiency
    }

    /// The part of the peak that causal attention reaches, counting only the FLOP it can't do without.
    pub const fn attention_efficiency(&self) -> f64 {
        self.attention_efficiency
    }

    /// All of its memory.
    pub const fn memory(&self) -> Bytes {
        self.memory
    }

    /// The part of its memory that it lends to training.
    pub const fn memory_fraction(&self) -> f64 {
        self.memory_fraction
    }

    /// Bytes a second that cross its link to host memory in each direction; `None` where none is described, and nothing
    /// can be moved to the host.
    pub const fn host_bandwidth_bytes_per_s(&self) -> Option<f64> {
        self.host_bandwidth_bytes_per_s
    }

    /// Its share of what its node's host lends to training; `None` where nothing is said, and it isn't limited.
    pub const fn host_memory(&self) -> Option<Bytes> {
        self.host_memory
    }

    /// The memory it lends to training.
    pub fn lent_memory(&self) -> Bytes {
        Self::lent(self.memory, self.memory_fraction)
    }

    pub(super) fn lent(memory: Bytes, fraction: f64) -> Bytes {
        Bytes((memory.as_f64() * fraction) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.to_string().parse::<DeviceKind>().unwrap(), kind);
        }
    }

    #[test]
    fn a_name_without_memory_is_read_where_it_means_one_device() {
        let h100: DeviceKind = "h100".parse().unwrap();
        assert_eq!(h100, DeviceKind::H100With80Gb);
        let error = "a100".parse::<DeviceKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "device a100 is sold with more than one memory, as a100-40 and a100-80"
        );
        assert!("h".parse::<DeviceKind>().is_err());
    }

    #[test]
    fn devices_lend_a_part_of_their_memory() {
        let device = DeviceKind::A100With40Gb.model();
        let device = device.with_memory(Bytes(40 << 30), 0.75).unwrap();
        assert_eq!(device.lent_memory(), Bytes(30 << 30));
        for fraction in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(device.with_memory(Bytes(1), fraction).is_err());
            assert!(device.with_efficiency(fraction, 0.5).is_err());
            assert!(device.with_efficiency(0.5, fraction).is_err());
        }
        assert!(DeviceModel::new(f64::INFINITY, Bytes(1)).is_err());
    }
}
