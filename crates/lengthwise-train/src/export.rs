//! Writing a trained model where Hugging Face's `LlamaForCausalLM.from_pretrained` finds it.
//!
//! ```text
//! DIR/config.json
//! DIR/model.safetensors                       or, above 2 GiB,
//! DIR/model-00001-of-00003.safetensors ...  and  DIR/model.safetensors.index.json
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use lengthwise_outputs::{NewDirectory, NotSaved, OutputError, Saved};
use safetensors::tensor::{Dtype, View};
use serde_json::Value;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::companions::{Companions, MODEL_FILES};
use crate::model::{ModelConfig, ModelSpec, UnitSpec};

/// Bytes of a file beyond which the next unit goes to another one.
const FILE_BYTES: usize = 2 << 30;

/// The type of number that weights are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    /// Single precision, as they are trained.
    #[default]
    F32,
    /// 16 bits, rounded to nearest.
    Bf16,
}

impl WeightType {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "f32",
            WeightType::Bf16 => "bf16",
        }
    }

    /// Its name in `config.json`.
    const fn torch_name(self) -> &'static str {
        match self {
            WeightType::F32 => "float32",
            WeightType::Bf16 => "bfloat16",
        }
    }

    const fn dtype(self) -> Dtype {
        match self {
            WeightType::F32 => Dtype::F32,
            WeightType::Bf16 => Dtype::BF16,
        }
    }

    const fn num_bytes(self) -> usize {
        match self {
            WeightType::F32 => 4,
            WeightType::Bf16 => 2,
        }
    }

    fn bytes(self, elements: &[f32]) -> Vec<u8> {
        let elements = elements.iter();
        match self {
            WeightType::F32 => elements.flat_map(|x| x.to_le_bytes()).collect(),
            WeightType::Bf16 => {
                let narrow = elements.map(|&x| bf16::from_f32(x));
                narrow.flat_map(bf16::to_le_bytes).collect()
            }
        }
    }
}

/// Why a model can't be exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// It would replace a model, or can't be written.
    #[error(transparent)]
    Refused(#[from] OutputError),
    /// Nothing takes it in the end.
    #[error("the trained model is lost: {0}")]
    NotSaved(#[from] NotSaved),
    /// A file that goes with the model can't be copied.
    #[error("can't read {}, which goes with the trained model: {reason}", path.display())]
    Companion {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A state that can't be read any more.
    #[error(transparent)]
    State(#[from] CheckpointError),
    /// The trained tensors make no file.
    #[error("the trained model makes no file of tensors: {0}")]
    NoTensors(#[from] safetensors::SafeTensorError),
}

/// Writes a model unit by unit, so that no more than a file's worth of it is in memory.
#[derive(Debug)]
pub struct ExportWriter {
    directory: NewDirectory,
    spec: ModelSpec,
    weights: WeightType,
    /// The units of each file.
    files: Vec<Range<usize>>,
    /// The file that is being filled, with the units it has so far.
    current: usize,
    units: Vec<Vec<f32>>,
}

impl ExportWriter {
    /// Claims a directory for the model of a run, before the run.
    ///
    /// # Errors
    ///
    /// It can't be written or has no room for the model, a model is there already, or another run is writing one.
    pub fn claim(directory: &Path, spec: &ModelSpec) -> Result<NewDirectory, ExportError> {
        let num_bytes = size_of::<f32>() as u64 * spec.num_parameters() as u64;
        Ok(NewDirectory::claim(
            "export",
            directory,
            MODEL_FILES,
            num_bytes,
        )?)
    }

    /// A writer into a claimed directory.
    pub fn new(directory: NewDirectory, spec: ModelSpec, weights: WeightType) -> Self {
        Self::with_file_bytes(directory, spec, weights, FILE_BYTES)
    }

    fn with_file_bytes(
        directory: NewDirectory,
        spec: ModelSpec,
        weights: WeightType,
        file_bytes: usize,
    ) -> Self {
        let files = files(&spec.units, file_bytes / weights.num_bytes());
        ExportWriter {
            directory,
            spec,
            weights,
            files,
            current: 0,
            units: Vec::new(),
        }
    }

    /// Adds the next unit's flat vector.
    ///
    /// # Errors
    ///
    /// A file can't be written.
    pub fn add_unit(&mut self, flat: Vec<f32>) -> Result<(), ExportError> {
        self.units.push(flat);
        if self.units.len() == self.files[self.current].len() {
            self.write_file()?;
            self.units.clear();
            self.current += 1;
        }
        Ok(())
    }

    /// Writes what makes the files a model, when all units have been added; says where it is. That is the `config.json` of
    /// the model that training went on from, with the files that go with it; or else one for sequences of up to `context`
    /// tokens.
    ///
    /// # Errors
    ///
    /// A file can't be written.
    pub fn finish(
        mut self,
        config: &ModelConfig,
        context: u64,
        companions: Companions<'_>,
    ) -> Result<Saved, ExportError> {
        if self.files.len() > 1 {
            let mut weight_map = BTreeMap::new();
            for (file, units) in self.files.iter().enumerate() {
                for parameter in self.spec.units[units.clone()]
                    .iter()
                    .flat_map(|unit| &unit.parameters)
                {
                    weight_map.insert(&parameter.name, self.file_name(file));
                }
            }
            let total_size = self.weights.num_bytes() * self.spec.num_parameters();
            let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
            self.write_json("model.safetensors.index.json", &index)?;
        }
        for (from, name) in companions.files() {
            self.copy(&from, name)?;
        }
        let keys = companions.config(config, context, self.weights.torch_name());
        self.write_json("config.json", &keys.into())?;
        Ok(self.directory.publish()?)
    }

    fn write_file(&mut self) -> Result<(), ExportError> {
        let units = &self.spec.units[self.files[self.current].clone()];
        let weights = self.weights;
        let tensors = units.iter().zip(&self.units).flat_map(|(unit, flat)| {
            unit.ranges().map(move |(parameter, range)| {
                let shape = parameter.shape();
                let values = &flat[range];
                let tensor = Tensor {
                    shape,
                    values,
                    weights,
                };
                (parameter.name.as_str(), tensor)
            })
        });
        // The key that transformers asks for to know which framework's layout it is.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let bytes = safetensors::serialize(tensors, Some(metadata))?;
        Ok(self
            .directory
            .write(&self.file_name(self.current), &bytes)?)
    }

    /// Copies a file, if it is there.
    fn copy(&mut self, from: &Path, name: &str) -> Result<(), ExportError> {
        match fs::read(from) {
            Ok(bytes) => Ok(self.directory.write(name, &bytes)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ExportError::Companion {
                path: from.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    fn file_name(&self, file: usize) -> String {
        match self.files.len() {
            1 => "model.safetensors".to_owned(),
            num_files => format!("model-{:05}-of-{num_files:05}.safetensors", file + 1),
        }
    }

    fn write_json(&mut self, name: &str, value: &Value) -> Result<(), ExportError> {
        let text = format!("{value:#}\n");
        Ok(self.directory.write(name, text.as_bytes())?)
    }
}

/// A parameter, whose bytes are there only while they are written.
struct Tensor<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
    weights: WeightType,
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        self.weights.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.weights.bytes(self.values).into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.weights.num_bytes()
    }
}

/// The units of each file: as many as have at most so many elements, at least one.
fn files(units: &[UnitSpec], most_elements: usize) -> Vec<Range<usize>> {
    let mut files: Vec<Range<usize>> = Vec::new();
    let mut elements = 0;
    for (index, unit) in units.iter().enumerate() {
        match files.last_mut() {
            Some(file) if elements + unit.num_elements() <= most_elements => {
                file.end = index + 1;
                elements += unit.num_elements();
            }
            _ => {
                files.push(index..index + 1);
                elements = unit.num_elements();
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Rope};

    fn config() -> ModelConfig {
        ModelConfig {
            vocab: 100,
            hidden: 8,
            layers: 5,
            heads: 2,
            kv_heads: 1,
            ffn: 16,
            head_dim: 4,
            rope: Rope::plain(1e4),
            norm_epsilon: 1e-5,
            tied_output: true,
            family: Family::LLAMA,
        }
    }

    #[test]
    fn files_hold_whole_units_and_every_unit_once() {
        let units = ModelSpec::new(&config()).units;
        assert_eq!(files(&units, 1 << 20), vec![0..units.len()]);
        let many = files(&units, 2 * units[1].num_elements());
        assert!(many.len() > 2 && many[0].start == 0 && many[many.len() - 1].end == 7);
        assert!(many.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(
            files(&units, 1),
            (0..7).map(|unit| unit..unit + 1).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_index_says_which_file_holds_which_parameter() {
        let directory = tempfile::tempdir().unwrap();
        let spec = ModelSpec::new(&config());
        let claimed = ExportWriter::claim(directory.path(), &spec).unwrap();
        let mut writer =
            ExportWriter::with_file_bytes(claimed, spec.clone(), WeightType::F32, 4000);
        for (index, unit) in spec.units.iter().enumerate() {
            writer
                .add_unit(vec![index as f32; unit.num_elements()])
                .unwrap();
        }
        let _ = writer
            .finish(&config(), 512, Companions::default())
            .unwrap();
        let index = fs::read(directory.path().join("model.safetensors.index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        for (number, unit) in spec.units.iter().enumerate() {
            for parameter in &unit.parameters {
                let file = index["weight_map"][&parameter.name].as_str().unwrap();
                let bytes = fs::read(directory.path().join(file)).unwrap();
                let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                let tensor = tensors.tensor(&parameter.name).unwrap();
                assert_eq!(
                    tensor.data(),
                    (number as f32)
                        .to_le_bytes()
                        .repeat(parameter.num_elements())
                );
            }
        }
    }
}
