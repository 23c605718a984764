//! Errors of outputs, and the places where outputs were saved.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An output that is refused before any work.
#[derive(Debug, Error)]
#[error("{}: {rule}", self.place())]
pub struct OutputError {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) rule: OutputRule,
}

/// The rule that an output breaks.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum OutputRule {
    /// It would destroy what the command reads.
    #[error("it is {input}; an output never replaces what is read")]
    IsInput { input: String },
    /// It would destroy what the command writes.
    #[error("{other} is written to it; every output needs a file of its own")]
    IsOutput { other: String },
    /// Not a file.
    #[error("it is a directory; a file is to be written")]
    IsDirectory,
    /// Not a directory.
    #[error("it is a file; a directory is to be written")]
    IsFile,
    /// Nothing to create it in.
    #[error("its directory does not exist")]
    NoDirectory { directory: PathBuf },
    /// The system refuses to write it.
    #[error("it can't be written: {error}")]
    Unwritable { error: io::Error },
    /// Somebody else writes to it.
    #[error("another run is writing to it")]
    Busy,
    /// Less space than is needed.
    #[error("{needed_mib} MiB are to be written and {free_mib} MiB are free")]
    NoRoom { needed_mib: u64, free_mib: u64 },
    /// It would replace an existing model.
    #[error("{} is there already; a model is never overwritten", path.display())]
    Exists { path: PathBuf },
}

impl OutputError {
    pub(crate) fn new(name: &str, path: &Path, rule: OutputRule) -> Self {
        OutputError {
            name: name.to_owned(),
            path: path.to_owned(),
            rule,
        }
    }

    /// Its name, and its path where it has one.
    fn place(&self) -> String {
        match self.path.as_os_str().is_empty() {
            true => self.name.clone(),
            false => format!("{} {}", self.name, self.path.display()),
        }
    }

    /// The rule alone, where the output is named in another way.
    pub fn rule(&self) -> &OutputRule {
        &self.rule
    }

    /// Advice to the user, if there is any.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.rule {
            OutputRule::NoDirectory { directory } => {
                format!("create {} first", directory.display())
            }
            OutputRule::Busy => "wait until it has ended, or name another place".to_owned(),
            OutputRule::NoRoom { .. } => "free some space, or name another place".to_owned(),
            _ => "name another place".to_owned(),
        })
    }
}

impl From<io::Error> for OutputRule {
    fn from(error: io::Error) -> Self {
        OutputRule::Unwritable { error }
    }
}

/// The place where an output was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Saved {
    /// Its path.
    pub path: PathBuf,
    /// The place it was meant for and the reason it is not there; `None` if it is there.
    pub instead: Option<Instead>,
}

/// The place that an output was meant for, and the reason it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    pub(crate) of: PathBuf,
    pub(crate) reason: String,
}

impl Saved {
    pub(crate) fn at(path: &Path) -> Self {
        Saved {
            path: path.to_owned(),
            instead: None,
        }
    }

    pub(crate) fn instead(path: PathBuf, of: &Path, reason: &io::Error) -> Self {
        // A file that could not be moved to its place may still be written there.
        if path == of {
            return Saved::at(of);
        }
        let (of, reason) = (of.to_owned(), reason.to_string());
        Saved {
            path,
            instead: Some(Instead { of, reason }),
        }
    }

    /// Returns a message about an output that is not in the place it was meant for.
    pub fn elsewhere(&self, what: &str) -> Option<String> {
        let Instead { of, reason } = self.instead.as_ref()?;
        let (path, of) = (self.path.display(), of.display());
        Some(format!(
            "{what} is in {path}, since {of} can't be written: {reason}"
        ))
    }
}

/// Something that could not be written anywhere.
#[derive(Debug, Error)]
#[error("{} can't be written, nor any place instead: {error}", path.display())]
pub struct NotSaved {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl NotSaved {
    pub(crate) fn new(path: &Path, error: io::Error) -> Self {
        NotSaved {
            path: path.to_owned(),
            error,
        }
    }

    /// The error of the system.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
