//! Why a corpus gives no batch.

use std::io;
use std::path::PathBuf;

use lengthwise_core::Tokens;
use lengthwise_core::limits::Limit;
use thiserror::Error;

use crate::Position;

/// Why a corpus gives no batch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory that is not there or can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A device, socket or the like.
    #[error("{} is neither a file nor a directory", path.display())]
    NeitherFileNorDirectory {
        /// What was named.
        path: PathBuf,
    },
    /// A file whose bytes are no text to train on.
    #[error("{} is a .{extension} file; documents are read from text and from JSONL", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// Its ending.
        extension: &'static str,
    },
    /// A directory without documents.
    #[error("no file under {} has one of the extensions {}", path.display(), extensions.join(", "))]
    NoFiles {
        /// The directory.
        path: PathBuf,
        /// The extensions looked for.
        extensions: Vec<String>,
    },
    /// A line of a JSONL file that is no document.
    #[error("{}:{line}: {reason}; each line must be an object with a string `text`", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What the line is instead.
        reason: String,
    },
    /// A file that no longer has the documents it had.
    #[error(
        "{} changed during the run: a document of {expected_bytes} bytes has {found_bytes} now",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the document had when the corpus was opened.
        expected_bytes: u64,
        /// What is there now.
        found_bytes: u64,
    },
    /// A batch that could not be held.
    #[error("batches of {size} {what} were asked for; it must be {limit}")]
    BatchSize {
        /// Tokens or sequences.
        what: &'static str,
        /// How many.
        size: u64,
        /// How many there may be.
        limit: Limit<u64>,
    },
    /// More documents than can be numbered.
    #[error("the corpus has more than {} documents or files", u32::MAX)]
    TooManyDocuments,
    /// Documents of which no sequence is left.
    #[error(
        "the corpus gives no sequence (documents: {num_documents}; empty: {num_empty}; skipped for more than context = \
         {context} tokens: {num_overlong}; sequences shorter than min_tokens: {num_short})"
    )]
    NoSequences {
        /// Documents of the corpus.
        num_documents: u64,
        /// Those without a byte.
        num_empty: u64,
        /// Those skipped for their length.
        num_overlong: u64,
        /// Sequences left out because they are too short.
        num_short: u64,
        /// The longest sequence allowed.
        context: Tokens,
    },
    /// A place that no run over the corpus comes to.
    #[error(
        "the batches can't start at {position}: epochs are counted from 1, and the corpus gives {num_sequences} \
         sequences an epoch"
    )]
    NoSuchPosition {
        /// The place.
        position: Position,
        /// The sequences of an epoch.
        num_sequences: u64,
    },
    /// The source of batches ended before the last step.
    #[error("the batches ended before the last step")]
    Exhausted,
}

impl DataError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            DataError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; a relative path in a settings file starts from that file's directory"
            }
            DataError::NoText {
                extension: "json", ..
            } => "write one JSON object a line to a .jsonl file",
            DataError::NoText {
                extension: "gz" | "zst" | "xz" | "bz2" | "lz4" | "zip" | "7z" | "tar",
                ..
            } => "unpack it first",
            DataError::NoText { .. } => {
                "convert it to text or JSONL first, or list only the extensions that are meant"
            }
            DataError::NoFiles { .. } => "list other extensions, or name the files themselves",
            DataError::BadLine { .. } => {
                r#"a good line is {"text": "a document"}; more keys are ignored"#
            }
            DataError::Changed { .. } => "train on a copy that nothing writes to",
            DataError::NoSequences { .. } => {
                "raise the context, choose split or truncate for overlong documents, or lower min_tokens"
            }
            DataError::NoSuchPosition { .. } => {
                "resume with the corpus, the context and the rules that the run began with"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
