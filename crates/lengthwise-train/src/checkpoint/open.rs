//! A checkpoint on the disk, checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lengthwise_outputs::Saved;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::record::{CheckpointFile, TrainerRecord};
use super::rectangle::run_of;
use super::{CheckpointError, RECORD_FILE, StateKind};
use crate::export::{ExportError, ExportWriter, WeightType};
use crate::hugging_face::{
    Stored, StoredTensor, WeightHeader, config_json, read_config, weight_header,
};
use crate::model::{ModelConfig, ModelSpec, UnitSpec};

/// The ending of shards' names.
const SHARD: &str = ".safetensors";

/// Files that are checked at the same time.
const NUM_CHECKING_THREADS: usize = 4;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A checkpoint, whose files are there with the right sizes and hold every element once.
///
/// Elements are read when they are needed, and only the ranges that are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    record: TrainerRecord,
    model: ModelConfig,
    /// All keys of `config.json`.
    keys: Map<String, Value>,
    /// By kind and parameter: its parts, in the order of its elements.
    tensors: BTreeMap<(StateKind, String), Vec<Piece>>,
}

/// A part of a tensor.
#[derive(Debug)]
struct Piece {
    /// Its elements of the tensor.
    elements: Range<usize>,
    stored: StoredTensor,
}

#[derive(Deserialize)]
struct Place {
    saved_offsets: Vec<usize>,
}

impl Checkpoint {
    /// Opens a checkpoint and checks its files against each other, but for their checksums: [`Checkpoint::verify`] reads
    /// all of them.
    ///
    /// # Errors
    ///
    /// The fault in it.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let record = TrainerRecord::read(directory)?;
        for file in &record.files {
            check_size(directory, file)?;
        }
        let (config, keys) = read_config(directory)?;
        let mut checkpoint = Checkpoint {
            directory: directory.to_owned(),
            record,
            model: config.model,
            keys,
            tensors: BTreeMap::new(),
        };
        checkpoint.check_others()?;
        checkpoint.read_headers()?;
        checkpoint.check_whole()?;
        Ok(checkpoint)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The content of `trainer.json`.
    pub fn record(&self) -> &TrainerRecord {
        &self.record
    }

    /// All of its files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let names = self.record.files.iter().map(|file| &*file.name);
        names
            .chain([RECORD_FILE])
            .map(|name| self.directory.join(name))
    }

    /// The model.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// All keys of its `config.json`.
    pub(crate) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// Checks the checksums of all files, on several threads.
    ///
    /// # Errors
    ///
    /// The first file that is not as it was written.
    pub fn verify(&self) -> Result<(), CheckpointError> {
        let next = AtomicUsize::new(0);
        let files = &self.record.files;
        let check = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.check_checksum(file)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..NUM_CHECKING_THREADS.min(files.len()))
                .map(|_| scope.spawn(check))
                .collect();
            let mut checked = Ok(());
            for thread in threads {
                match thread.join() {
                    Ok(one) => checked = checked.and(one),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            checked
        })
    }

    /// The changes that a run with this model, these batches and this seed would make.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check_same(
        &self,
        model: &ModelConfig,
        data: &lengthwise_data::DataFingerprint,
        seed: u64,
    ) -> Result<(), CheckpointError> {
        let directory = || self.directory.clone();
        if *model != self.model {
            let (here, there) = (
                config_json(model, 0, "float32"),
                config_json(&self.model, 0, "float32"),
            );
            let show = |value: Option<&Value>| value.map_or("missing".to_owned(), Value::to_string);
            let mut keys: Vec<&String> = here.keys().chain(there.keys()).collect();
            // The size of a head may only follow from another key.
            keys.sort_by_key(|&key| (key == "head_dim", key));
            let other = keys
                .into_iter()
                .find(|&key| here.get(key) != there.get(key));
            let key = other.map_or("its computation", String::as_str);
            return Err(CheckpointError::OtherModel {
                directory: directory(),
                key: key.to_owned(),
                there: show(there.get(key)),
                here: show(here.get(key)),
            });
        }
        if let Some(difference) = data.difference(&self.record.data) {
            return Err(CheckpointError::OtherData {
                directory: directory(),
                difference,
            });
        }
        if seed != self.record.seed {
            return Err(CheckpointError::OtherSeed {
                directory: directory(),
                there: self.record.seed,
                here: seed,
            });
        }
        Ok(())
    }

    /// Writes the model, in the form of Hugging Face; says where it is.
    ///
    /// # Errors
    ///
    /// The directory holds a model or can't be written, or the state can't be read any more.
    pub fn export(&self, directory: &Path, weights: WeightType) -> Result<Saved, ExportError> {
        let spec = ModelSpec::new(&self.model);
        let claimed = ExportWriter::claim(directory, &spec)?;
        let mut writer = ExportWriter::new(claimed, spec.clone(), weights);
        for unit in &spec.units {
            writer.add_unit(self.elements(StateKind::Weight, unit, 0..unit.num_elements())?)?;
        }
        writer.finish(&self.model, self.record.data.context, self.into())
    }

    /// Elements of a `range` of a unit's flat vector.
    pub(crate) fn elements(
        &self,
        kind: StateKind,
        unit: &UnitSpec,
        range: Range<usize>,
    ) -> Result<Vec<f32>, CheckpointError> {
        let mut elements = Vec::with_capacity(range.len());
        for (parameter, place) in unit.ranges() {
            let part = place.start.max(range.start)..place.end.min(range.end);
            if part.is_empty() {
                continue;
            }
            let part = part.start - place.start..part.end - place.start;
            let pieces = &self.tensors[&(kind, parameter.name.clone())];
            let first = pieces.partition_point(|piece| piece.elements.end <= part.start);
            for piece in &pieces[first..] {
                if piece.elements.start >= part.end {
                    break;
                }
                let from = part.start.max(piece.elements.start) - piece.elements.start;
                let to = part.end.min(piece.elements.end) - piece.elements.start;
                piece.stored.read(from..to, &mut elements)?;
            }
        }
        Ok(elements)
    }

    /// Refuses shards that the record does not list: PyTorch would read them.
    fn check_others(&self) -> Result<(), CheckpointError> {
        let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
            path: self.directory.clone(),
            reason: error.to_string(),
        };
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let name = name.to_string_lossy();
            let is_listed = self.record.files.iter().any(|file| file.name == name);
            if name.ends_with(SHARD) && !is_listed {
                return Err(CheckpointError::File {
                    path: self.directory.join(&*name),
                    reason: "trainer.json does not list it".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Finds out what each shard holds.
    fn read_headers(&mut self) -> Result<(), CheckpointError> {
        let spec = ModelSpec::new(&self.model);
        let parameters = spec.units.iter().flat_map(|unit| &unit.parameters);
        let mut known: BTreeMap<String, (StateKind, &str, Vec<usize>)> = BTreeMap::new();
        for parameter in parameters {
            for kind in StateKind::ALL {
                let name = kind.tensor_name(&parameter.name);
                known.insert(name, (kind, &parameter.name, parameter.shape()));
            }
        }
        let shards = self.record.files.iter();
        for file in shards.filter(|file| file.name.ends_with(SHARD)) {
            let path = self.directory.join(&file.name);
            let broken = |reason: String| CheckpointError::File {
                path: path.clone(),
                reason,
            };
            let WeightHeader { entries, about } = weight_header(&path)?;
            let places = about.get("DCP_SHARDING_INFO");
            let places = places.ok_or_else(|| broken("it has no DCP_SHARDING_INFO".to_owned()))?;
            let places: BTreeMap<String, Place> = serde_json::from_str(places)
                .map_err(|error| broken(format!("its DCP_SHARDING_INFO is broken: {error}")))?;
            for entry in entries {
                let name = &entry.name;
                let Some((kind, parameter, shape)) = known.get(name) else {
                    return Err(broken(format!(
                        "it holds {name}, which a model of this config.json does not have"
                    )));
                };
                if Stored::of(entry.dtype) != Some(Stored::F32) {
                    return Err(broken(format!(
                        "{name} is of type {}; it must be F32",
                        entry.dtype
                    )));
                }
                let place = places.get(name);
                let offsets = place.map(|place| &*place.saved_offsets);
                let run = offsets.and_then(|offsets| run_of(shape, offsets, &entry.shape));
                let Some(elements) = run else {
                    return Err(broken(format!(
                        "{name} of shape {:?} at {offsets:?} is no run of a tensor of shape {shape:?}",
                        entry.shape
                    )));
                };
                let stored = StoredTensor {
                    path: path.clone(),
                    start: entry.start,
                    stored: Stored::F32,
                };
                let pieces = self.tensors.entry((*kind, (*parameter).to_owned()));
                pieces.or_default().push(Piece { elements, stored });
            }
        }
        Ok(())
    }

    /// Checks that the shards have every element once.
    fn check_whole(&mut self) -> Result<(), CheckpointError> {
        let spec = ModelSpec::new(&self.model);
        for parameter in spec.units.iter().flat_map(|unit| &unit.parameters) {
            for kind in StateKind::ALL {
                let name = kind.tensor_name(&parameter.name);
                let broken = |reason: &str, at: usize| CheckpointError::Shards {
                    directory: self.directory.clone(),
                    reason: format!("{reason} {name}, from element {at} on"),
                };
                let pieces = self.tensors.get_mut(&(kind, parameter.name.clone()));
                let Some(pieces) = pieces else {
                    return Err(broken("its shards lack", 0));
                };
                pieces.retain(|piece| !piece.elements.is_empty());
                pieces.sort_by_key(|piece| piece.elements.start);
                let mut end = 0;
                for piece in &*pieces {
                    if piece.elements.start > end {
                        return Err(broken("its shards lack", end));
                    }
                    if piece.elements.start < end {
                        return Err(broken("two of its shards hold", piece.elements.start));
                    }
                    end = piece.elements.end;
                }
                if end < parameter.num_elements() {
                    return Err(broken("its shards lack", end));
                }
            }
        }
        Ok(())
    }

    fn check_checksum(&self, file: &CheckpointFile) -> Result<(), CheckpointError> {
        let path = self.directory.join(&file.name);
        let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut open = File::open(&path).map_err(unreadable)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match open.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => hasher.update(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        match hasher.finalize() {
            crc32 if crc32 == file.crc32 => Ok(()),
            crc32 => Err(CheckpointError::File {
                path,
                reason: format!(
                    "its checksum is {crc32:08x}, and trainer.json says {:08x}: it is not as it was written",
                    file.crc32
                ),
            }),
        }
    }
}

fn check_size(directory: &Path, file: &CheckpointFile) -> Result<(), CheckpointError> {
    let path = directory.join(&file.name);
    let broken = |reason: String| CheckpointError::File {
        path: path.clone(),
        reason,
    };
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(broken("it is missing; trainer.json lists it".to_owned()));
        }
        Err(error) => {
            return Err(CheckpointError::Unreadable {
                path: path.clone(),
                reason: error.to_string(),
            });
        }
    };
    if !metadata.is_file() {
        return Err(broken("it is no file".to_owned()));
    }
    if metadata.len() != file.num_bytes {
        return Err(broken(format!(
            "it has {} bytes, and trainer.json says {}",
            metadata.len(),
            file.num_bytes
        )));
    }
    Ok(())
}
