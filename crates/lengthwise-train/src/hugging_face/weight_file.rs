//! One safetensors file: where each tensor lies in it, and the elements of a range.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::PretrainedError;

/// Bytes of the number that stands in front of the header.
const LENGTH_BYTES: u64 = 8;

/// The longest header that safetensors allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The form in which a file stores the elements of a tensor that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    /// The type that a file calls `dtype`, if it can be trained.
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Stored::F32),
            Dtype::F16 => Some(Stored::F16),
            Dtype::BF16 => Some(Stored::Bf16),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Stored::F32 => 4,
            Stored::F16 | Stored::Bf16 => 2,
        }
    }

    fn widen(self, bytes: &[u8], elements: &mut Vec<f32>) {
        let pairs = || bytes.as_chunks::<2>().0.iter().copied();
        match self {
            Stored::F32 => {
                let fours = bytes.as_chunks::<4>().0.iter().copied();
                elements.extend(fours.map(f32::from_le_bytes));
            }
            Stored::F16 => elements.extend(pairs().map(|pair| f16::from_le_bytes(pair).to_f32())),
            Stored::Bf16 => elements.extend(pairs().map(|pair| bf16::from_le_bytes(pair).to_f32())),
        }
    }
}

/// A tensor as its file's header describes it.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The byte of the file at which it begins.
    pub start: u64,
}

/// The header of a file.
#[derive(Debug)]
pub struct WeightHeader {
    /// In the order in which they lie in it.
    pub entries: Vec<TensorEntry>,
    /// Whatever its writer has noted.
    pub about: HashMap<String, String>,
}

/// The tensors of a file.
pub fn entries(path: &Path) -> Result<Vec<TensorEntry>, PretrainedError> {
    Ok(weight_header(path)?.entries)
}

/// Reads and checks the header of a file: its tensors follow one another up to the end of the file.
pub fn weight_header(path: &Path) -> Result<WeightHeader, PretrainedError> {
    let unreadable = |error: std::io::Error| PretrainedError::unreadable(path, &error);
    let broken = |reason: String| PretrainedError::Weights {
        path: path.to_owned(),
        reason,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(broken("it is no file".to_owned()));
    }
    let len = metadata.len();
    let mut length = [0; LENGTH_BYTES as usize];
    if len < LENGTH_BYTES {
        return Err(broken(format!("it has {len} bytes, and no header")));
    }
    file.read_exact(&mut length).map_err(unreadable)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MOST_HEADER_BYTES || header_bytes > len - LENGTH_BYTES {
        return Err(broken(format!(
            "its header should have {header_bytes} bytes; the file has {len}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| broken(format!("its header is broken: {error}")))?;
    let tensors = header.tensors();
    let mut end = 0u64;
    let mut entries = Vec::with_capacity(tensors.len());
    for name in header.offset_keys() {
        let info = tensors[&name];
        let (from, to) = info.data_offsets;
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        let stored = to.checked_sub(from).and_then(|bytes| bytes.checked_mul(8));
        if from as u64 != end || bits.is_none() || stored != bits {
            return Err(broken(format!(
                "its header puts {name} of shape {:?} at bytes {from} to {to}, which it does not fill from {end} on",
                info.shape
            )));
        }
        end = to as u64;
        entries.push(TensorEntry {
            name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: LENGTH_BYTES + header_bytes + from as u64,
        });
    }
    let data_bytes = len - LENGTH_BYTES - header_bytes;
    if data_bytes != end {
        return Err(broken(format!(
            "its tensors have {end} bytes, and {data_bytes} are there"
        )));
    }
    let about = header.metadata().clone().unwrap_or_default();
    Ok(WeightHeader { entries, about })
}

/// A tensor that can be trained, and where it is.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    pub path: PathBuf,
    pub start: u64,
    pub stored: Stored,
}

impl StoredTensor {
    /// Appends the elements of a range, and reads nothing else.
    pub fn read(
        &self,
        range: Range<usize>,
        elements: &mut Vec<f32>,
    ) -> Result<(), PretrainedError> {
        let unreadable = |error: std::io::Error| PretrainedError::unreadable(&self.path, &error);
        let mut file = File::open(&self.path).map_err(unreadable)?;
        let width = self.stored.bytes();
        let start = self.start + (range.start * width) as u64;
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let mut left = range.len() * width;
        let mut chunk = vec![0; left.min(CHUNK_BYTES)];
        while left > 0 {
            let bytes = &mut chunk[..left.min(CHUNK_BYTES)];
            file.read_exact(bytes).map_err(unreadable)?;
            self.stored.widen(bytes, elements);
            left -= bytes.len();
        }
        Ok(())
    }
}
