//! Treatment of rows that are no record.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Treatment of a row that is no record: no JSON, without its field, or not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CorruptRows {
    /// It ends the run, before training.
    #[default]
    Error,
    /// It is left out and counted. A file that can't be read or unpacked still ends the run: the loss is unknown.
    Skip,
}

impl CorruptRows {
    /// The names that [`FromStr`] reads.
    pub const NAMES: [&str; 2] = ["error", "skip"];
}

impl FromStr for CorruptRows {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "error" => Ok(CorruptRows::Error),
            "skip" => Ok(CorruptRows::Skip),
            _ => Err(()),
        }
    }
}

impl fmt::Display for CorruptRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CorruptRows::Error => "error",
            CorruptRows::Skip => "skip",
        })
    }
}

/// Number of skipped rows, and the fault of the first of them. Readers of several files may share one.
#[derive(Debug, Default)]
pub struct SkippedRows(Mutex<(u64, Option<String>)>);

impl SkippedRows {
    /// Counts a row; `why` names it.
    pub(crate) fn count(&self, why: impl fmt::Display) {
        let mut skipped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.0 += 1;
        // Files may be read at the same time: the first by name is the same in every run.
        let why = why.to_string();
        if skipped.1.as_ref().is_none_or(|first| why < *first) {
            skipped.1 = Some(why);
        }
    }

    /// Number of skipped rows.
    pub fn num_rows(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// One of them, and what is wrong with it; the same whatever the order in which files are read.
    pub fn example(&self) -> Option<String> {
        let skipped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.1.clone()
    }
}
