//! Ids in files: pairs of `.bin` and `.idx` in the form that Megatron-LM reads and writes, and what stands beside them.
//!
//! ```text
//! PREFIX.bin   the ids of all documents, one after the other
//! PREFIX.idx   the type of an id, and where documents begin            index
//! PREFIX.mask  a bit for each id: whether it is trained on             mask
//! PREFIX.rows  for each document its row in the file it comes from     rows
//! PREFIX.json  where all of it comes from, and its hashes              about
//! ```
//!
//! The last three are Lengthwise's own, and none need be there.

mod about;
mod element;
mod index;
mod mask;
mod positional;
mod reader;
mod writer;

pub use about::{SourceFile, TokensAbout};
pub use element::TokenType;
pub use index::TokenIndex;
pub use positional::ReadAt;
pub use reader::TokenFiles;
pub(crate) use reader::hash_of;
pub use writer::{TokenFilesWriter, WrittenTokens};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::pattern::Pattern;

/// The name of a file beside others: the prefix with an ending.
pub(crate) fn with_ending(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(".");
    name.push(ending);
    name.into()
}

/// The prefix of a pair that is named by its prefix or by one of its files, if both are there. A pattern names none.
pub(crate) fn prefix_of(path: &Path) -> Option<PathBuf> {
    let stem = match path.extension().and_then(|extension| extension.to_str()) {
        Some("bin" | "idx") => path.with_extension(""),
        _ => path.to_owned(),
    };
    let is_file = |ending| with_ending(&stem, ending).is_file();
    let is_pattern = || !path.exists() && Pattern::of(path).is_some();
    let is_named = stem != path && !path.is_dir() && !is_pattern();
    (is_named || (!path.exists() && is_file("bin") && is_file("idx"))).then_some(stem)
}
