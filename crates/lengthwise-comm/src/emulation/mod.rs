//! An emulated cluster: threads that are held to the speeds of described devices and links by virtual clocks.
//!
//! Data and results are those of any other run; only time is added. Every rank has a virtual clock:
//!
//! ```text
//! computes      its thread's processor time, divided by the part of a core that its device stands for
//! comes to call the call's transfer starts when the clock of its last member says, or later if that one is late
//! waits         until the transfer has ended on links that everything under way shares, and not before
//!               that moment has really come
//! ```
//!
//! A thread needs less time to compute than its device is given, so it is early at most calls; where the machine is
//! busy and a thread is late, what it computes next makes up for it. Transfers never make up for anything: from the
//! moment all members have really come, a call takes what the links need. At a barrier, clocks that are behind are set.
//!
//! A copy between a device and its host takes what the device's own link needs, while the rank computes; it waits for the end
//! of it as for that of a transfer.
//!
//! As many ranks compute at once as there are cores, those first whose clocks are furthest behind. So processor time is that of
//! a thread which has a core to itself, however many ranks there are.

mod core_scheduler;
mod emulated_cluster;
mod host_link;
mod moved;
mod thread_time;
mod virtual_clock;

use lengthwise_core::Cluster;
use lengthwise_core::limits::CORE_FRACTION;
use lengthwise_core::words::figure;
use lengthwise_cost::{ClusterLinks, Link};
use thiserror::Error;

pub(crate) use emulated_cluster::{EmulatedCluster, GroupPaths, Transfer};
pub(crate) use host_link::{CopyEnd, HostDirection};
pub(crate) use moved::Moved;
pub(crate) use virtual_clock::VirtualClock;

/// A cluster that the threads of this machine stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Emulation {
    cluster: Cluster,
    links: ClusterLinks,
    host_link: Option<Link>,
    core_fraction: f64,
    num_cores: usize,
}

/// Why a cluster can't be emulated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum EmulationError {
    /// A fraction that is none.
    #[error("core_fraction is {}; it must be a number from {} to 1", figure(*value), figure(CORE_FRACTION))]
    BadCoreFraction {
        /// The value given.
        value: f64,
    },
    /// More devices than the machine can stand for at this fraction.
    #[error(
        "core_fraction is {value}, so the {num_devices} devices need {needed:.2} cores; the machine has {num_cores}"
    )]
    TooFewCores {
        /// The fraction.
        value: f64,
        /// The number of devices.
        num_devices: u32,
        /// The number of cores they stand for together.
        needed: f64,
        /// The number of cores.
        num_cores: usize,
        /// The largest fraction that is possible.
        most: f64,
    },
    /// Nodes that can't reach each other.
    #[error(
        "nics_per_node is 0; the {num_nodes} nodes of the cluster need at least one each to reach each other"
    )]
    NoNics {
        /// The number of nodes.
        num_nodes: usize,
    },
    /// A system that does not tell threads' processor time.
    #[error(
        "a cluster can't be emulated on this system; it doesn't tell how long a thread has computed"
    )]
    NoThreadTime,
}

impl EmulationError {
    /// A hint for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            EmulationError::TooFewCores { most, .. } => Some(format!(
                "leave it out, or let each device be at most {most:.3} of a core; then everything takes longer, in \
                 proportion",
            )),
            _ => None,
        }
    }
}

impl Emulation {
    /// The default part of the cores that all devices together stand for. The rest lets threads that are late catch up, and
    /// plans be drawn up meanwhile.
    const USED: f64 = 0.5;

    /// A cluster whose devices of nominal speed each compute as fast as `core_fraction` of one of this machine's
    /// `num_cores` cores; `None` for half of what the cores can do.
    ///
    /// # Errors
    ///
    /// The fraction is out of range or more than the cores can do, nodes lack NICs, or this system can't emulate.
    pub fn new(
        cluster: Cluster,
        links: ClusterLinks,
        core_fraction: Option<f64>,
        num_cores: usize,
    ) -> Result<Self, EmulationError> {
        if thread_time::now().is_none() {
            return Err(EmulationError::NoThreadTime);
        }
        let num_nodes = cluster.num_nodes();
        if num_nodes > 1 && links.nics_per_node == 0 {
            return Err(EmulationError::NoNics { num_nodes });
        }
        let speeds = cluster.devices().iter().map(|device| device.speed().get());
        let speed: f64 = speeds.sum();
        let most = num_cores as f64 / speed;
        let value = core_fraction.unwrap_or((Self::USED * most).min(1.0));
        if !(CORE_FRACTION..=1.0).contains(&value) {
            return Err(EmulationError::BadCoreFraction { value });
        }
        // Fractions are written with few digits: 0.333 must do for three devices on a core.
        if value > most * (1.0 + 1e-9) {
            return Err(EmulationError::TooFewCores {
                value,
                num_devices: cluster.num_devices(),
                needed: value * speed,
                num_cores,
                most: (most * 1e3).floor() / 1e3,
            });
        }
        Ok(Emulation {
            cluster,
            links,
            host_link: None,
            core_fraction: value,
            num_cores,
        })
    }

    /// The devices.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The links between them.
    pub const fn links(&self) -> ClusterLinks {
        self.links
    }

    /// The link between each device and its host; `None` where copies between them take no time.
    pub const fn host_link(&self) -> Option<Link> {
        self.host_link
    }

    /// The part of a core that a device of nominal speed stands for.
    pub const fn core_fraction(&self) -> f64 {
        self.core_fraction
    }

    /// The number of ranks that compute at once.
    pub const fn num_cores(&self) -> usize {
        self.num_cores
    }

    /// The same devices, each of which reaches its host over a link of its own, in both directions at once.
    #[must_use]
    pub fn with_host_link(mut self, link: Link) -> Self {
        self.host_link = Some(link);
        self
    }

    /// The same devices with other links.
    #[must_use]
    pub fn with_links(mut self, links: ClusterLinks) -> Self {
        self.links = links;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Seconds, Speed};
    use lengthwise_cost::Link;

    fn links(nics_per_node: u32) -> ClusterLinks {
        let link = Link::new(1e6, Seconds::ZERO).unwrap();
        ClusterLinks {
            device: link,
            nics_per_node,
            nic: link,
        }
    }

    fn cluster(num_nodes: u32, devices_per_node: u32, speed: f64) -> Cluster {
        let device = Device::new(Bytes::from_mib(1), Speed::new(speed).unwrap());
        Cluster::uniform(num_nodes, devices_per_node, device).unwrap()
    }

    #[test]
    fn devices_use_half_of_the_cores_where_nothing_is_said() {
        let fraction = |cluster| {
            let emulation = Emulation::new(cluster, links(1), None, 2).unwrap();
            emulation.core_fraction()
        };
        assert_eq!(fraction(cluster(2, 4, 1.0)), 0.125);
        assert_eq!(fraction(cluster(1, 4, 0.5)), 0.5);
        assert_eq!(fraction(cluster(1, 1, 0.5)), 1.0);
    }

    #[test]
    fn more_than_the_cores_can_do_is_refused_with_what_they_can() {
        let emulate = |fraction| Emulation::new(cluster(2, 3, 1.0), links(1), Some(fraction), 2);
        assert!(emulate(1.0 / 3.0).is_ok());
        let error = emulate(0.5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "core_fraction is 0.5, so the 6 devices need 3.00 cores; the machine has 2"
        );
        assert!(error.hint().unwrap().contains("at most 0.333 of a core"));
        for fraction in [0.0, -0.1, 1.1, f64::NAN] {
            let error = emulate(fraction).unwrap_err();
            assert!(matches!(error, EmulationError::BadCoreFraction { .. }));
        }
    }

    #[test]
    fn nodes_need_nics() {
        assert!(Emulation::new(cluster(1, 3, 1.0), links(0), None, 2).is_ok());
        let error = Emulation::new(cluster(2, 3, 1.0), links(0), None, 2).unwrap_err();
        assert_eq!(error, EmulationError::NoNics { num_nodes: 2 });
    }
}
