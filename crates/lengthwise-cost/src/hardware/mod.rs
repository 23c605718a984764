//! Clusters described by their data sheets: devices, nodes, links, and what is not like the rest.

mod checks;
mod device;
mod file;
mod links;
mod named;

use std::collections::BTreeMap;
use std::path::Path;

use lengthwise_core::{Bytes, Cluster, Device, Rank, Seconds, Speed};

pub use device::{DeviceKind, DeviceModel};
pub use links::{ClusterLinks, ExchangeEfficiency, Link};

use crate::HardwareError;
use crate::text_file::read_text;
use file::ClusterFile;

/// A cluster that is described rather than measured: by its [name](Hardware::named), or by a file.
///
/// As a file, with a known kind of device or with its own figures, which count more:
///
/// ```
/// let hardware = lengthwise_cost::Hardware::from_toml(r#"
///     name = "two nodes of A100s"
///     num_nodes = 2
///     devices_per_node = 8
///     host_memory_gib = 900           # what each node's host lends to activations; the kind's, if left out
///
///     [device]
///     kind = "a100-40"
///     memory_fraction = 0.75          # lent to training; 0.9, if left out
///     efficiency = 0.7                # this and attention_efficiency, peak_flops_per_s, memory_gib replace the kind's
///     host_bandwidth_bytes_per_s = 25e9   # of its link to host memory, each direction; the kind's, if left out
///     core_fraction = 0.2             # of a processor core, where the cluster is emulated
///
///     [device_link]                   # from each device to its node's switch, each direction
///     bandwidth_bytes_per_s = 300e9   # the kind's, if left out
///     latency_s = 12e-6               # 0, if left out
///     exchange_efficiency = 0.26      # the part of the bandwidth that an all-to-all reaches; also for [nic]
///
///     [nic]                           # left out on a single node
///     per_node = 1
///     bandwidth_bytes_per_s = 50e9    # each
///     latency_s = 18e-6
///
///     [[other_devices]]               # stragglers, and devices with other memory
///     ranks = [3]                     # or nodes = [...]
///     speed = 0.5
/// "#)?;
/// let cluster = hardware.cluster()?;
/// assert_eq!((cluster.num_nodes(), cluster.num_devices()), (2, 16));
/// assert_eq!(cluster.devices()[3].speed().get(), 0.5);
/// assert_eq!(hardware.links().nics_per_node, 1);
/// assert_eq!(hardware.with_num_devices(64)?.cluster()?.num_nodes(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    name: String,
    num_devices: u32,
    devices_per_node: u32,
    device: DeviceModel,
    core_fraction: Option<f64>,
    links: ClusterLinks,
    exchange_efficiency: ExchangeEfficiency,
    unlike: BTreeMap<Rank, Unlike>,
}

/// How a device differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Unlike {
    speed: Option<Speed>,
    memory: Option<Bytes>,
}

impl Hardware {
    /// Equal devices, `devices_per_node` a node; the last node takes what is left.
    ///
    /// # Errors
    ///
    /// There is no device, there are too many, or several nodes without NICs.
    pub fn new(
        name: impl Into<String>,
        num_devices: u32,
        devices_per_node: u32,
        device: DeviceModel,
        links: ClusterLinks,
    ) -> Result<Self, HardwareError> {
        let hardware = Hardware {
            name: name.into(),
            num_devices,
            devices_per_node,
            device,
            core_fraction: None,
            links,
            exchange_efficiency: ExchangeEfficiency::default(),
            unlike: BTreeMap::new(),
        };
        hardware.check()?;
        Ok(hardware)
    }

    /// Reads a cluster file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no TOML, lacks or misspells a key, or a value breaks a rule.
    pub fn read(path: &Path) -> Result<Self, HardwareError> {
        let text = read_text(path).map_err(|source| HardwareError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// Reads a cluster from the text of its file.
    ///
    /// # Errors
    ///
    /// The text is no TOML, lacks or misspells a key, or a value breaks a rule.
    pub fn from_toml(text: &str) -> Result<Self, HardwareError> {
        let file: ClusterFile = toml::from_str(text)?;
        let hardware = file.hardware()?;
        hardware.check()?;
        Ok(hardware)
    }

    /// The same with another number of devices, in nodes like these. Devices that are unlike the others stay so.
    ///
    /// # Errors
    ///
    /// There is no device, there are too many, or several nodes without NICs.
    pub fn with_num_devices(&self, num_devices: u32) -> Result<Self, HardwareError> {
        let mut hardware = self.clone();
        hardware.num_devices = num_devices;
        hardware.unlike.retain(|rank, _| rank.0 < num_devices);
        hardware.check()?;
        Ok(hardware)
    }

    /// The same with so much memory on every device that is like the others, of which they lend the same part.
    #[must_use]
    pub fn with_memory(&self, memory: Bytes) -> Self {
        let mut hardware = self.clone();
        hardware.device.memory = memory;
        hardware
    }

    /// The same with every device like the others.
    #[must_use]
    pub fn without_other_devices(&self) -> Self {
        let mut hardware = self.clone();
        hardware.unlike.clear();
        hardware
    }

    /// The ranks of plans as devices of their own, where each stands for so many neighbours in each of so many equal runs
    /// of devices, of which both are divisors: as slow as its slowest device, with the memory of the fullest.
    #[must_use]
    pub(crate) fn ranks(&self, neighbours: u32, runs: u32) -> Self {
        let num_ranks = self.num_devices / (neighbours * runs);
        let devices_of = |rank: u32| {
            let run = self.num_devices / runs;
            (0..runs)
                .flat_map(move |at| (0..neighbours).map(move |i| at * run + rank * neighbours + i))
        };
        let run = self.num_devices / runs;
        let unlike = self.unlike.keys().map(|device| device.0 % run / neighbours);
        let unlike = unlike.map(|rank| {
            let devices = || {
                let devices = devices_of(rank).map(|device| self.unlike.get(&Rank(device)));
                devices.map(|unlike| unlike.copied().unwrap_or_default())
            };
            let speeds = devices().map(|device| device.speed.unwrap_or(Speed::NOMINAL));
            let memories = devices().map(|device| device.memory.unwrap_or(self.device.memory));
            let slowest = Unlike {
                speed: speeds.reduce(Speed::min),
                memory: memories.min(),
            };
            (Rank(rank), slowest)
        });
        Hardware {
            num_devices: num_ranks,
            devices_per_node: self.devices_per_node / neighbours,
            unlike: unlike.collect(),
            ..self.clone()
        }
    }

    fn check(&self) -> Result<(), HardwareError> {
        let cluster = self.cluster()?;
        if self.links.nics_per_node == 0 && cluster.num_nodes() > 1 {
            let num_nodes = cluster.num_nodes();
            let rule = format!("the {num_nodes} nodes need NICs to reach each other");
            return Err(HardwareError::missing("nic", rule));
        }
        Ok(())
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many devices there are.
    pub const fn num_devices(&self) -> u32 {
        self.num_devices
    }

    /// How many devices a node has; the last takes what is left.
    pub const fn devices_per_node(&self) -> u32 {
        self.devices_per_node
    }

    /// What every device is like that is not said to be unlike the others. Speeds of the cluster's devices are
    /// relative to it.
    pub const fn device(&self) -> &DeviceModel {
        &self.device
    }

    /// The part of a processor core that a device stands for where the cluster is emulated; `None` where none is
    /// written.
    pub const fn core_fraction(&self) -> Option<f64> {
        self.core_fraction
    }

    /// How devices reach each other.
    pub const fn links(&self) -> ClusterLinks {
        self.links
    }

    /// From each device to the memory of its host; `None` where none is described. Copies are large, so that latency doesn't
    /// count.
    pub fn host_link(&self) -> Option<Link> {
        Link::new(self.device.host_bandwidth_bytes_per_s?, Seconds::ZERO).ok()
    }

    /// The share of the links' bandwidth that an all-to-all reaches.
    pub const fn exchange_efficiency(&self) -> ExchangeEfficiency {
        self.exchange_efficiency
    }

    /// The devices as planners see them: what each lends to training, and how fast it is beside [`Hardware::device`].
    ///
    /// # Errors
    ///
    /// There is no device, or there are too many.
    pub fn cluster(&self) -> Result<Cluster, HardwareError> {
        let on_host = |device: Device| match self.device.host_memory {
            Some(host_memory) => device.with_host_memory(host_memory),
            None => device,
        };
        let usual = on_host(Device::new(self.device.lent_memory(), Speed::NOMINAL));
        if self.unlike.is_empty() {
            let cluster =
                Cluster::with_num_devices(self.num_devices, self.devices_per_node, usual)?;
            return Ok(cluster);
        }
        let device = |rank: u32| {
            let unlike = self.unlike.get(&Rank(rank)).copied().unwrap_or_default();
            let memory = unlike.memory.unwrap_or(self.device.memory);
            on_host(Device::new(
                DeviceModel::lent(memory, self.device.memory_fraction),
                unlike.speed.unwrap_or(Speed::NOMINAL),
            ))
        };
        let devices: Vec<Device> = (0..self.num_devices).map(device).collect();
        let nodes = devices.chunks(self.devices_per_node.max(1) as usize);
        Ok(Cluster::from_nodes(
            nodes.map(<[Device]>::to_vec).collect(),
        )?)
    }
}
