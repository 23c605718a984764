//! The devices and links that costs follow from, by name or as a file describes them.

use std::path::{Path, PathBuf};

use lengthwise_core::Cluster;
use lengthwise_cost::{Hardware, HardwareError};

use crate::{CostChanges, InputError};

/// A described cluster, and where its description comes from: a file, or its name.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSource {
    path: PathBuf,
    hardware: Hardware,
}

impl ClusterSource {
    /// The cluster of a name, or of a file in TOML.
    pub(crate) fn named(text: &str) -> Result<Self, InputError> {
        let path = Path::new(text);
        let hardware = if is_file(path) {
            Hardware::read(path)
        } else {
            Hardware::named(text)
        };
        let hardware = hardware.map_err(|error| match error {
            HardwareError::UnknownCluster { name } => InputError::UnknownCluster { name },
            error => InputError::hardware(path, error),
        })?;
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

/// Whether a file is meant, there or not, rather than a name.
fn is_file(path: &Path) -> bool {
    let in_toml = path
        .extension()
        .is_some_and(|extension| extension == "toml");
    in_toml || path.components().count() > 1 || path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> String {
        let error = ClusterSource::named(name).unwrap_err();
        let hint = error.hint().map(|hint| format!("\n  hint: {hint}"));
        format!("{error}{}\n", hint.unwrap_or_default())
    }

    #[test]
    fn the_example_of_a_usual_cluster_is_the_one_of_its_name() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/clusters/h100-8x8.toml"
        );
        let described = ClusterSource::named(file).unwrap();
        let named = ClusterSource::named("h100-8x8").unwrap();
        assert_eq!(described.hardware, named.hardware);
    }

    #[test]
    fn a_file_that_is_there_comes_before_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h100-8x8");
        std::fs::write(&path, "name").unwrap();
        assert!(is_file(&path));
        assert!(is_file(Path::new("./h100-8x8")));
        assert!(!is_file(Path::new("h100-8x8")));
    }

    #[test]
    fn what_is_no_cluster_is_one_error_that_says_what_to_write() {
        let names = [
            "h10-8x8",
            "H100-4x8",
            "h100",
            "mi300x-8x8",
            "mine",
            "a100-4x8",
            "h100-0x8",
            "h200-1000000x8",
            "no-such-folder/h100-8x8",
            "h100-8x8.toml",
        ];
        insta::assert_snapshot!(names.map(told).concat(), @r"
        there is no cluster h10-8x8: neither a file nor a known one, which are DEVICE-NODESxDEVICES of a100-40, a100-80, h100-80, h200, b200
          hint: did you mean h100-8x8?
        there is no cluster H100-4x8: neither a file nor a known one, which are DEVICE-NODESxDEVICES of a100-40, a100-80, h100-80, h200, b200
          hint: did you mean h100-4x8?
        there is no cluster h100: neither a file nor a known one, which are DEVICE-NODESxDEVICES of a100-40, a100-80, h100-80, h200, b200
          hint: did you mean h100-8x8?
        there is no cluster mi300x-8x8: neither a file nor a known one, which are DEVICE-NODESxDEVICES of a100-40, a100-80, h100-80, h200, b200
          hint: write it like a100-40-8x8, a100-80-8x8, h100-80-8x8, h100-8x8, h200-8x8, b200-8x8
        there is no cluster mine: neither a file nor a known one, which are DEVICE-NODESxDEVICES of a100-40, a100-80, h100-80, h200, b200
          hint: write it like a100-40-8x8, a100-80-8x8, h100-80-8x8, h100-8x8, h200-8x8, b200-8x8
        a100-4x8: device a100 is sold with more than one memory, as a100-40 and a100-80
          hint: write the one that is meant
        h100-0x8: num_nodes is 0; it must be at least 1
        h200-1000000x8: num_nodes is 1000000; with 8 devices each that is more than the 1048576 devices a cluster may have
        cluster file no-such-folder/h100-8x8 can't be read: No such file or directory (os error 2)
        cluster file h100-8x8.toml can't be read: No such file or directory (os error 2)
        ");
    }
}
