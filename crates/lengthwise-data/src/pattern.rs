//! Paths that stand for several.

use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use crate::DataError;

/// A path with `*` (some characters of a name), `**` (any directories), `?` (a character) or `[a-z]` (one of some).
#[derive(Debug)]
pub(crate) struct Pattern(String);

/// As shells match: a star stops at a slash, and finds no name that begins with a dot.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

impl Pattern {
    /// The pattern that a path is, if it has any of those characters.
    pub(crate) fn of(path: &Path) -> Option<Result<Self, DataError>> {
        let pattern = path
            .to_str()
            .filter(|path| path.contains(['*', '?', '[']))?;
        Some(match glob::Pattern::new(pattern) {
            Ok(_) => Ok(Pattern(pattern.to_owned())),
            Err(error) => Err(DataError::BadPattern {
                pattern: pattern.to_owned(),
                reason: format!("{} (at character {})", error.msg, error.pos + 1),
            }),
        })
    }

    /// The matching files, in the order of names.
    pub(crate) fn matches(&self) -> Result<Vec<PathBuf>, DataError> {
        let matches = glob_with(&self.0, OPTIONS).map_err(|error| DataError::BadPattern {
            pattern: self.0.clone(),
            reason: error.msg.to_owned(),
        })?;
        let matches: Result<Vec<_>, _> = matches.collect();
        matches.map_err(|error| {
            let path = error.path().to_owned();
            let source = io::Error::from(error);
            DataError::Read { path, source }
        })
    }

    /// The error that nothing does.
    pub(crate) fn matches_nothing(&self) -> DataError {
        let pattern = self.0.clone();
        DataError::NoMatch { pattern }
    }
}
