//! `trainer.json`: where a run was, and what else the checkpoint holds.

use std::path::Path;

use lengthwise_core::Cluster;
use lengthwise_data::{DataFingerprint, Position};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, CostsRecord, RECORD_FILE};
use crate::OptimizerConfig;

/// The form of checkpoints that is written and read.
const VERSION: u64 = 2;

/// The key of the checksum, which covers all that is before it.
const CHECKSUM: &str = ",\n  \"checksum\": \"";

/// The longest `trainer.json` that is read, in bytes: settings may be long, figures are not.
const MOST_BYTES: u64 = 64 << 20;

/// Where a run was, and what files hold its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerRecord {
    /// Of the form of checkpoints.
    pub version: u64,
    /// The version of Lengthwise that wrote it.
    pub program: String,
    /// The name of the run, which stays when it goes on.
    pub run: String,
    /// Steps that were trained.
    pub step: u64,
    /// Steps that the run was to have.
    pub steps: u64,
    /// The number of times that the corpus had been begun.
    pub epoch: u64,
    /// Sequences that were drawn since then.
    pub num_drawn: u64,
    /// The source that was drawn from.
    pub data: DataFingerprint,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// Ranks of the run.
    pub num_ranks: usize,
    /// The optimiser of the last step.
    pub optimizer: OptimizerConfig,
    /// The costs of steps; `None` where no rank knew them.
    pub costs: Option<CostsRecord>,
    /// The settings, in TOML.
    pub settings: String,
    /// The time that writing the shards took, in seconds.
    pub save_s: f64,
    /// All files of the checkpoint but this one.
    pub files: Vec<CheckpointFile>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// In the checkpoint's directory.
    pub name: String,
    /// Its size.
    pub num_bytes: u64,
    /// Of all of it.
    pub crc32: u32,
}

/// The devices of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRecord {
    /// For each node, for each of its devices: memory in bytes, and speed.
    pub nodes: Vec<Vec<(u64, f64)>>,
    /// Tells emulated clusters apart; `None` where none is emulated.
    pub emulated: Option<u32>,
}

impl ClusterRecord {
    /// A record of these devices.
    pub fn new(cluster: &Cluster, emulation: Option<&lengthwise_comm::Emulation>) -> Self {
        let node = |node: usize| {
            let ranks = cluster.node_ranks(node).unwrap_or_default();
            let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
            let device =
                |device: &lengthwise_core::Device| (device.memory().0, device.speed().get());
            devices.iter().map(device).collect()
        };
        ClusterRecord {
            nodes: (0..cluster.num_nodes()).map(node).collect(),
            emulated: emulation
                .map(|emulation| crc32fast::hash(format!("{emulation:?}").as_bytes())),
        }
    }
}

impl TrainerRecord {
    /// The form that is written.
    pub const VERSION: u64 = VERSION;

    /// Where the run was in its data.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            num_drawn: self.num_drawn,
        }
    }

    /// The size of all files but this one.
    pub fn num_bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum: u64, file| sum.saturating_add(file.num_bytes))
    }

    /// The text of the file, which ends with a checksum of all before it.
    ///
    /// # Errors
    ///
    /// A figure is no number.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        let text = text.strip_suffix("\n}").unwrap_or(&text);
        let checksum = crc32fast::hash(text.as_bytes());
        Ok(format!("{text}{CHECKSUM}{checksum:08x}\"\n}}\n"))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// The fault in it, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".to_owned())?;
        let mut value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let keys = value.as_object_mut().ok_or("it is no JSON object")?;
        match keys.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "it is of version {version}; this program reads version {VERSION}"
                ));
            }
            None => return Err("it has no version".to_owned()),
        }
        let summed = text.rfind(CHECKSUM).ok_or("it has no checksum")?;
        let checksum = keys.remove("checksum");
        let expected = format!("{:08x}", crc32fast::hash(&bytes[..summed]));
        if checksum.as_ref().and_then(serde_json::Value::as_str) != Some(&*expected) {
            return Err("its checksum does not fit: something in it was changed".to_owned());
        }
        let record: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), String> {
        if self.step == 0 || self.epoch == 0 {
            return Err(format!(
                "step {} and epoch {} are counted from 1",
                self.step, self.epoch
            ));
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| &*file.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("it lists {} twice", twice[0]));
        }
        let is_name = |name: &&str| {
            !name.is_empty() && !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.')
        };
        if let Some(name) = names
            .iter()
            .find(|name| !is_name(name) || **name == RECORD_FILE)
        {
            return Err(format!(
                "it lists {name:?}, which is no file of a checkpoint"
            ));
        }
        Ok(())
    }

    /// Reads the file of a directory.
    pub(crate) fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(RECORD_FILE);
        let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        };
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let directory = directory.to_owned();
                return Err(match directory.exists() {
                    true => CheckpointError::None { directory },
                    false => CheckpointError::Missing { directory },
                });
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !metadata.is_file() || metadata.len() > MOST_BYTES {
            return Err(CheckpointError::Record {
                path,
                reason: format!("it is no file of at most {} MiB", MOST_BYTES >> 20),
            });
        }
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        Self::parse(&bytes).map_err(|reason| CheckpointError::Record { path, reason })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{NoDecay, Schedule};

    pub(crate) fn record() -> TrainerRecord {
        TrainerRecord {
            version: VERSION,
            program: "0.1.0".to_owned(),
            run: "2026-01-01T00:00:00.000Z-1".to_owned(),
            step: 7,
            steps: 20,
            epoch: 2,
            num_drawn: 5,
            data: DataFingerprint {
                num_documents: 3,
                num_sequences: 9,
                num_tokens: 100,
                lengths_crc32: 17,
                context: 64,
                overlong: "split".to_owned(),
                min_tokens: 1,
                batch_tokens: Some(128),
                batch_sequences: None,
                seed: Some(0),
                shares: Vec::new(),
                content: lengthwise_data::ContentFingerprint::default(),
            },
            seed: 0,
            num_ranks: 2,
            optimizer: OptimizerConfig {
                learning_rate: 1e-3,
                warmup_steps: 2,
                schedule: Schedule::Cosine {
                    min_learning_rate: 1e-4,
                },
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                no_decay: NoDecay::USUAL,
                clip_norm: None,
            },
            costs: None,
            settings: "[train]\nsteps = 20\n".to_owned(),
            save_s: 0.1,
            files: vec![CheckpointFile {
                name: "config.json".to_owned(),
                num_bytes: 3,
                crc32: 4,
            }],
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was() {
        let text = record().to_json().unwrap();
        assert_eq!(TrainerRecord::parse(text.as_bytes()), Ok(record()));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let text = record().to_json().unwrap().into_bytes();
        // The last two bytes are white space behind the object, and the brace before it.
        for end in 0..text.len() - 1 {
            assert!(TrainerRecord::parse(&text[..end]).is_err(), "cut at {end}");
        }
        for index in 0..text.len() - 1 {
            for bit in [0, 4, 7] {
                let mut changed = text.clone();
                changed[index] ^= 1 << bit;
                let read = TrainerRecord::parse(&changed);
                assert!(read.is_err(), "bit {bit} of byte {index}");
            }
        }
    }
}
