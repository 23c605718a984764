//! The files that a rank's shard goes into: safetensors with the place of each part, which PyTorch reads.
//!
//! Its reader knows one place for each tensor of a file, so the parts of a tensor go into as many files.

use std::io::{self, BufWriter, Write};
use std::ops::Range;

use lengthwise_outputs::WholeDirectory;
use serde_json::{Map, Value, json};

use super::record::CheckpointFile;
use super::rectangle::rectangles;
use super::{Elements, StateKind, UnitState};
use crate::model::ModelSpec;

/// As many files as a range has rectangles at most.
pub const FILES_OF_RANK: usize = 3;

/// Elements that are turned into little-endian order at once: few enough to stay in a core's cache until they are summed and
/// written.
const CHUNK_ELEMENTS: usize = 16 << 10;
const CHUNK_BYTES: usize = 4 * CHUNK_ELEMENTS;

/// The name of one of a rank's files, as PyTorch names the shards that it writes.
fn file_name(rank: usize, file: usize) -> String {
    format!(
        "shard-{:05}-model-{:05}-of-{FILES_OF_RANK:05}.safetensors",
        rank + 1,
        file + 1
    )
}

/// One part of a tensor, as it goes into a file.
struct Part<'a> {
    name: String,
    offsets: Vec<usize>,
    shape: Vec<usize>,
    elements: &'a Elements,
    /// Which of them.
    range: Range<usize>,
}

/// Writes a rank's shard; says which files that are.
pub fn write_shard(
    directory: &WholeDirectory,
    spec: &ModelSpec,
    rank: usize,
    units: &[UnitState],
) -> io::Result<Vec<CheckpointFile>> {
    let mut files = Vec::new();
    for file in 0..FILES_OF_RANK {
        let parts = parts_of(spec, units, file);
        if !parts.is_empty() {
            let name = file_name(rank, file);
            files.push(write_file(directory, name, &parts)?);
        }
    }
    Ok(files)
}

/// The parts that are the `file`-th of their tensor.
fn parts_of<'a>(spec: &ModelSpec, units: &'a [UnitState], file: usize) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for (unit, state) in spec.units.iter().zip(units) {
        for (parameter, range, place) in state.parameters(unit) {
            let offset = range.start;
            let Some(rectangle) = rectangles(&parameter.shape(), range).into_iter().nth(file)
            else {
                continue;
            };
            let from = place.start + (rectangle.elements.start - offset);
            let place = from..from + rectangle.elements.len();
            for (kind, elements) in StateKind::ALL.into_iter().zip(&state.elements) {
                parts.push(Part {
                    name: kind.tensor_name(&parameter.name),
                    offsets: rectangle.offsets.clone(),
                    shape: rectangle.shape.clone(),
                    elements,
                    range: place.clone(),
                });
            }
        }
    }
    parts
}

fn write_file(
    directory: &WholeDirectory,
    name: String,
    parts: &[Part<'_>],
) -> io::Result<CheckpointFile> {
    let header = header(parts);
    let mut file = Summed::new(BufWriter::with_capacity(
        CHUNK_BYTES,
        directory.create(&name)?,
    ));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut chunk = Vec::with_capacity(CHUNK_ELEMENTS);
    let mut bytes = vec![0; CHUNK_BYTES];
    for part in parts {
        for start in part.range.clone().step_by(CHUNK_ELEMENTS) {
            chunk.clear();
            let end = part.range.end.min(start + CHUNK_ELEMENTS);
            part.elements.read(start..end, &mut chunk);
            let places = bytes.as_chunks_mut().0;
            for (place, element) in places.iter_mut().zip(&chunk) {
                *place = element.to_le_bytes();
            }
            file.write_all(&bytes[..4 * chunk.len()])?;
        }
    }
    let (inner, num_bytes, crc32) = file.end();
    let inner = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    inner.finish()?;
    Ok(CheckpointFile {
        name,
        num_bytes,
        crc32,
    })
}

/// Writes a file that is in memory; says what it is.
pub fn write_bytes(
    directory: &WholeDirectory,
    name: &str,
    bytes: &[u8],
) -> io::Result<CheckpointFile> {
    let mut file = directory.create(name)?;
    file.write_all(bytes)?;
    file.finish()?;
    Ok(CheckpointFile {
        name: name.to_owned(),
        num_bytes: bytes.len() as u64,
        crc32: crc32fast::hash(bytes),
    })
}

fn header(parts: &[Part<'_>]) -> Vec<u8> {
    let places: Map<String, Value> = parts
        .iter()
        .map(|part| (part.name.clone(), json!({ "saved_offsets": part.offsets })))
        .collect();
    let mut header = Map::new();
    let about = json!({
        "format": "pt",
        "DCP_VERSION": "1.0",
        "DCP_SHARDING_INFO": Value::Object(places).to_string(),
    });
    header.insert("__metadata__".to_owned(), about);
    let mut end = 0;
    for part in parts {
        let start = end;
        end += 4 * part.range.len();
        let entry = json!({ "dtype": "F32", "shape": part.shape, "data_offsets": [start, end] });
        header.insert(part.name.clone(), entry);
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    // Tensors are aligned as safetensors' own writer aligns them.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    bytes
}

/// Counts and sums what goes through it.
struct Summed<W> {
    inner: W,
    num_bytes: u64,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Summed<W> {
    fn new(inner: W) -> Self {
        Summed {
            inner,
            num_bytes: 0,
            hasher: crc32fast::Hasher::new(),
        }
    }

    fn end(self) -> (W, u64, u32) {
        (self.inner, self.num_bytes, self.hasher.finalize())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.num_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
