//! The description beside token files: their sources and their hashes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Description of token files that were made of other files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensAbout {
    /// Of this form.
    pub version: u32,
    /// How records became ids.
    pub encoding: String,
    /// The id that each document begins with when it is read; it is not stored.
    pub begins_with: Option<u32>,
    /// The files that the documents are of, in their order.
    pub sources: Vec<SourceFile>,
    /// Rows that were skipped since they are broken.
    pub num_skipped: u64,
    /// The fault of one of them.
    pub skipped_example: Option<String>,
    /// XXH3-64 of each file by its ending, in hexadecimal, and its bytes.
    pub files: Vec<FileHash>,
}

impl Default for TokensAbout {
    fn default() -> Self {
        TokensAbout {
            version: VERSION,
            encoding: String::new(),
            begins_with: None,
            sources: Vec::new(),
            num_skipped: 0,
            skipped_example: None,
            files: Vec::new(),
        }
    }
}

/// The form that is written.
pub(crate) const VERSION: u32 = 2;

/// A file that documents were made of: what tells it from what it was before or becomes later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Without links.
    pub path: PathBuf,
    /// Its size.
    pub num_bytes: u64,
    /// When its content or its inode was changed, in nanoseconds since 1970; no program can set that back. Where files keep
    /// no such time, when its content was.
    pub changed_ns: i64,
    /// Its number on its device, where files have one.
    pub inode: u64,
    /// The documents it gave.
    pub num_documents: u64,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Ending of its name.
    pub ending: String,
    /// Its size in bytes.
    pub num_bytes: u64,
    /// XXH3-64 of it, in hexadecimal.
    pub xxh3: String,
}
