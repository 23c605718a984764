//! The form of a file, and its packing.

use std::path::Path;

use crate::DataError;
use crate::files::has_extension;

/// Form of a file, once it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// One text.
    Text,
    /// One JSON object a line.
    JsonLines,
    /// A table in Apache's format, which packs its own pages.
    Parquet,
}

/// Packing of a file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// As gzip does.
    Gzip,
    /// As Zstandard does.
    Zstd,
}

impl Packing {
    const PACKED: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

    /// The ending of files packed so; none for those that are not.
    pub fn ending(self) -> Option<&'static str> {
        match self {
            Packing::Plain => None,
            Packing::Gzip => Some("gz"),
            Packing::Zstd => Some("zst"),
        }
    }
}

impl FileForm {
    /// The form and packing that the name of a file tells: by its last ending, and by the one before it where the last tells
    /// how it is packed. A file with another ending, or none, is text.
    ///
    /// ```
    /// use lengthwise_data::records::{FileForm, Packing};
    ///
    /// let form = |name: &str| FileForm::of(name.as_ref());
    /// assert_eq!(form("a.jsonl.zst"), (FileForm::JsonLines, Packing::Zstd));
    /// assert_eq!(form("a.Parquet"), (FileForm::Parquet, Packing::Plain));
    /// assert_eq!(form("a.txt.gz"), (FileForm::Text, Packing::Gzip));
    /// ```
    pub fn of(path: &Path) -> (Self, Packing) {
        let packing = Packing::PACKED.into_iter().find(|packing| {
            packing
                .ending()
                .is_some_and(|ending| ends_with(path, ending))
        });
        let unpacked = match packing {
            Some(_) => path.with_extension(""),
            None => path.to_owned(),
        };
        let form = if ends_with(&unpacked, "jsonl") {
            FileForm::JsonLines
        } else if ends_with(&unpacked, "parquet") {
            FileForm::Parquet
        } else {
            FileForm::Text
        };
        (form, packing.unwrap_or(Packing::Plain))
    }
}

/// Endings of files that hold documents in some form that is not read; their bytes are no text to train on. Those that are
/// codes of languages are left out: `.pt` may be Portuguese.
pub(crate) const NOT_READ: &[&str] = &[
    "json",
    "ndjson",
    "xz",
    "bz2",
    "lz4",
    "lzma",
    "zstd",
    "zip",
    "7z",
    "rar",
    "tar",
    "tgz",
    "tbz2",
    "txz",
    "csv",
    "tsv",
    "xlsx",
    "arrow",
    "feather",
    "avro",
    "orc",
    "tfrecord",
    "sqlite",
    "npy",
    "npz",
    "h5",
    "pkl",
    "pth",
    "safetensors",
    "pdf",
];

/// Refuses a file of a form that is not read, by its ending.
pub(crate) fn check(path: &Path) -> Result<(), DataError> {
    let unpacked = match FileForm::of(path).1 {
        Packing::Plain => path.to_owned(),
        _ => path.with_extension(""),
    };
    // What is packed twice is unpacked once.
    let twice = Packing::PACKED.into_iter().filter_map(Packing::ending);
    let mut endings = NOT_READ.iter().copied().chain(twice);
    match endings.find(|ending| ends_with(&unpacked, ending)) {
        Some(extension) => Err(DataError::NoText {
            path: path.to_owned(),
            extension,
        }),
        None => Ok(()),
    }
}

/// Whether a file's name has this ending, in any case.
pub(crate) fn ends_with(path: &Path, ending: &str) -> bool {
    path.file_name()
        .is_some_and(|name| has_extension(name, &[ending.to_owned()]))
}
