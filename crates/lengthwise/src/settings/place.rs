//! Where a setting was written, so that an error can point at it.

use std::fmt;
use std::path::PathBuf;

use lengthwise_core::words::shown;

use super::overrides::OverrideSource;
use crate::failure::Failure;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a settings file, on a line counted from 1.
    File { path: PathBuf, line: usize },
    /// For this run.
    Run(OverrideSource),
    /// Nowhere.
    Default,
}

impl Place {
    /// How much what is written here counts: more than what is written in any lower layer.
    pub fn layer(&self) -> u8 {
        match self {
            Place::Default => 0,
            Place::File { .. } => 1,
            Place::Run(OverrideSource::Variable(_)) => 2,
            Place::Run(OverrideSource::Flag(_) | OverrideSource::Set) => 3,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line } => write!(f, "{}:{line}", path.display()),
            Place::Run(OverrideSource::Flag(name)) => write!(f, "--{name}"),
            Place::Run(OverrideSource::Set) => f.write_str("--set"),
            Place::Run(OverrideSource::Variable(name)) => f.write_str(name),
            Place::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    /// What it is.
    pub value: T,
    /// As `section.key`.
    pub key: &'static str,
    /// As it was written.
    pub written: String,
    /// Where it was written.
    pub place: Place,
}

impl<T> Setting<T> {
    /// The error that this value breaks `rule`.
    pub fn breaks(&self, rule: impl fmt::Display) -> Failure {
        broken(self.key, &self.written, &self.place, rule)
    }

    /// Checks a rule.
    pub fn must(&self, holds: bool, rule: impl fmt::Display, hint: &str) -> Result<(), Failure> {
        if holds {
            Ok(())
        } else {
            Err(self.breaks(rule).hint(hint))
        }
    }

    /// Whether the user has written it.
    pub fn is_given(&self) -> bool {
        self.place != Place::Default
    }
}

/// The error that what was written for `key` breaks `rule`.
pub fn broken(key: &str, written: &str, place: &Place, rule: impl fmt::Display) -> Failure {
    let (key, written) = (shown(key), shown(written));
    Failure::input(match place {
        Place::File { .. } => format!("{place}: {key} = {written}: {rule}"),
        Place::Run(OverrideSource::Flag(_)) => format!("{place} {written}: {rule}"),
        Place::Run(OverrideSource::Set) => format!("{place} {key}={written}: {rule}"),
        Place::Run(OverrideSource::Variable(_)) => format!("{place}={written}: {rule}"),
        Place::Default => format!("{key} = {written} (the default): {rule}"),
    })
}
