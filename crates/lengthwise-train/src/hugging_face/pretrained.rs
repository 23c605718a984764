//! A model in a directory: what it is, and its weights, of which each rank reads its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::weight_file::{Stored, StoredTensor, TensorEntry, entries};
use super::{ConfigError, PretrainedConfig, PretrainedError};
use crate::model::{ModelSpec, UnitSpec};

/// The file of a model that is not sharded.
const SINGLE: &str = "model.safetensors";

/// The file that says which file holds which tensor.
const INDEX: &str = "model.safetensors.index.json";

/// The output projection, which a model with tied embeddings may store once more.
const OUTPUT: &str = "lm_head.weight";

/// The embedding table.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// The end of names of tensors that follow from `config.json`; old models store them.
const COMPUTED: &str = ".rotary_emb.inv_freq";

/// A model in a directory, checked: all of its parameters are there, with the right shapes, and nothing else.
///
/// Weights are read when they are needed, and only the ranges that are asked for.
#[derive(Debug)]
pub struct PretrainedModel {
    directory: PathBuf,
    config: PretrainedConfig,
    /// All keys of `config.json`.
    keys: Map<String, Value>,
    tensors: BTreeMap<String, StoredTensor>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl PretrainedConfig {
    /// Reads the `config.json` of a model's directory.
    ///
    /// # Errors
    ///
    /// It can't be read, or not be computed.
    pub fn read(directory: &Path) -> Result<Self, PretrainedError> {
        Ok(read_config(directory)?.0)
    }
}

/// The content of a directory's `config.json`, and its keys as they are.
pub(crate) fn read_config(
    directory: &Path,
) -> Result<(PretrainedConfig, Map<String, Value>), PretrainedError> {
    let path = directory.join("config.json");
    let text = fs::read(&path).map_err(|error| PretrainedError::unreadable(&path, &error))?;
    let text = str::from_utf8(&text).map_err(|error| PretrainedError::Config {
        path: path.clone(),
        source: ConfigError::Syntax {
            reason: error.to_string(),
        },
    })?;
    let parsed = PretrainedConfig::parse(text).and_then(|config| {
        let keys = serde_json::from_str(text).map_err(|error| ConfigError::Syntax {
            reason: error.to_string(),
        })?;
        Ok((config, keys))
    });
    parsed.map_err(|source| PretrainedError::Config { path, source })
}

impl PretrainedModel {
    /// Opens a model, and checks its files against each other.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or does not hold what the others say.
    pub fn open(directory: &Path) -> Result<Self, PretrainedError> {
        let (config, keys) = read_config(directory)?;
        let mut model = PretrainedModel {
            directory: directory.to_owned(),
            config,
            keys,
            tensors: BTreeMap::new(),
        };
        let entries = model.entries()?;
        model.check(entries)?;
        Ok(model)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its description.
    pub fn config(&self) -> &PretrainedConfig {
        &self.config
    }

    /// All keys of its `config.json`.
    pub(crate) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// The elements of a `range` of a unit's flat vector.
    pub(crate) fn elements(
        &self,
        unit: &UnitSpec,
        range: Range<usize>,
    ) -> Result<Vec<f32>, PretrainedError> {
        let mut elements = Vec::with_capacity(range.len());
        for (parameter, place) in unit.ranges() {
            let part = place.start.max(range.start)..place.end.min(range.end);
            if !part.is_empty() {
                let part = part.start - place.start..part.end - place.start;
                self.tensors[&parameter.name].read(part, &mut elements)?;
            }
        }
        Ok(elements)
    }

    /// All tensors of all files, with the file of each.
    fn entries(&self) -> Result<Vec<(PathBuf, TensorEntry)>, PretrainedError> {
        let single = self.directory.join(SINGLE);
        if single.exists() {
            let entries = entries(&single)?.into_iter();
            return Ok(entries.map(|entry| (single.clone(), entry)).collect());
        }
        let path = self.directory.join(INDEX);
        if !path.exists() {
            return Err(PretrainedError::NoWeights {
                directory: self.directory.clone(),
            });
        }
        let broken = |reason| PretrainedError::Index {
            path: path.clone(),
            reason,
        };
        let text = fs::read(&path).map_err(|error| PretrainedError::unreadable(&path, &error))?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        for file in files {
            let is_name = !file.contains(['/', '\\', ':', '\0']) && *file != ".." && *file != ".";
            if !is_name || file.is_empty() {
                return Err(broken(format!(
                    "{file:?} is no name of a file beside the index"
                )));
            }
            let shard = self.directory.join(file);
            if !shard.exists() {
                return Err(broken(format!("it names {file}, which is not there")));
            }
            for entry in entries(&shard)? {
                if index.weight_map.get(&entry.name) != Some(file) {
                    return Err(broken(format!(
                        "{file} holds {}, and the index does not say so",
                        entry.name
                    )));
                }
                seen.insert(entry.name.clone());
                all.push((shard.clone(), entry));
            }
        }
        if let Some((name, file)) = index
            .weight_map
            .iter()
            .find(|(name, _)| !seen.contains(*name))
        {
            return Err(broken(format!(
                "it says that {file} holds {name}, and it does not"
            )));
        }
        Ok(all)
    }

    /// Takes what the model is made of, and refuses anything else.
    fn check(&mut self, entries: Vec<(PathBuf, TensorEntry)>) -> Result<(), PretrainedError> {
        let spec = ModelSpec::new(&self.config.model);
        let parameters = || spec.units.iter().flat_map(|unit| &unit.parameters);
        let shapes: BTreeMap<&str, Vec<usize>> = parameters()
            .map(|parameter| (parameter.name.as_str(), parameter.shape()))
            .collect();
        let is_tied = self.config.model.tied_output;
        let mut output = None;
        for (path, entry) in entries {
            let is_copy = is_tied && entry.name == OUTPUT;
            let wanted = if is_copy { EMBEDDING } else { &entry.name };
            let Some(shape) = shapes.get(wanted) else {
                if entry.name.ends_with(COMPUTED) {
                    continue;
                }
                return Err(PretrainedError::Superfluous {
                    path,
                    name: entry.name,
                });
            };
            if entry.shape != *shape {
                return Err(PretrainedError::Shape {
                    path,
                    name: entry.name,
                    shape: entry.shape,
                    expected: shape.clone(),
                });
            }
            let Some(stored) = Stored::of(entry.dtype) else {
                return Err(PretrainedError::DataType {
                    path,
                    name: entry.name,
                    dtype: entry.dtype.to_string(),
                });
            };
            let tensor = StoredTensor {
                path,
                start: entry.start,
                stored,
            };
            if is_copy {
                output = Some(tensor);
            } else {
                self.tensors.insert(entry.name, tensor);
            }
        }
        let missing = |name: &&str| !self.tensors.contains_key(*name);
        let missing: Vec<&str> = parameters()
            .map(|parameter| parameter.name.as_str())
            .filter(missing)
            .collect();
        if let Some(&first) = missing.first() {
            return Err(PretrainedError::Missing {
                directory: self.directory.clone(),
                name: first.to_owned(),
                num_missing: missing.len(),
            });
        }
        match output {
            Some(output) => self.check_tied(&output),
            None => Ok(()),
        }
    }

    /// Checks that an output projection is the embedding table it is said to be.
    fn check_tied(&self, output: &StoredTensor) -> Result<(), PretrainedError> {
        const ROWS: usize = 1024;
        let (vocab, hidden) = (self.config.model.vocab, self.config.model.hidden);
        let table = &self.tensors[EMBEDDING];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for row in (0..vocab).step_by(ROWS) {
            let range = row * hidden..vocab.min(row + ROWS) * hidden;
            ours.clear();
            theirs.clear();
            table.read(range.clone(), &mut ours)?;
            output.read(range, &mut theirs)?;
            let differs = |(ours, theirs): (&f32, &f32)| ours.to_bits() != theirs.to_bits();
            if ours.iter().zip(&theirs).any(differs) {
                return Err(PretrainedError::OtherOutput {
                    path: output.path.clone(),
                });
            }
        }
        Ok(())
    }
}
