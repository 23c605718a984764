//! The devices and links that a file describes.

use std::path::{Path, PathBuf};

use lengthwise_core::Cluster;
use lengthwise_cost::{Hardware, HardwareError};

use crate::{CostChanges, InputError};

/// A described cluster, and where its description comes from.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSource {
    path: PathBuf,
    hardware: Hardware,
}

impl ClusterSource {
    /// The cluster of a file.
    pub(crate) fn read(path: &Path) -> Result<Self, InputError> {
        let hardware = Hardware::read(path).map_err(|error| InputError::hardware(path, error))?;
        Ok(ClusterSource {
            path: path.to_owned(),
            hardware,
        })
    }

    /// The devices and links, with another number of devices or another memory where asked for.
    pub(crate) fn hardware(&self, changes: CostChanges) -> Result<Hardware, InputError> {
        let mut hardware = self.hardware.clone();
        if let Some(num_devices) = changes.num_devices {
            let changed = hardware.with_num_devices(num_devices);
            hardware = changed.map_err(|error| self.error(error))?;
        }
        if let Some(memory) = changes.memory {
            hardware = hardware.with_memory(memory);
        }
        Ok(hardware)
    }

    /// The devices alone.
    pub(crate) fn cluster(&self, hardware: &Hardware) -> Result<Cluster, InputError> {
        hardware.cluster().map_err(|error| self.error(error))
    }

    /// Where the description comes from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error of what it describes.
    pub(crate) fn error(&self, error: HardwareError) -> InputError {
        InputError::hardware(&self.path, error)
    }
}
