//! What can be wrong with measured or written costs.

use std::path::PathBuf;

use lengthwise_core::CoreError;
use thiserror::Error;

/// Costs that can't be.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CostError {
    /// A coefficient that is negative, infinite or not a number.
    #[error("{name} is {value}; it must be finite and not negative")]
    BadCoefficient {
        /// The field.
        name: &'static str,
        /// What it was given.
        value: f64,
    },
    /// The same for an entry of a table.
    #[error("{name} of degree {degree} is {value}; it must be finite and not negative")]
    BadEntry {
        /// The table.
        name: &'static str,
        /// The entry's degree.
        degree: u32,
        /// What it was given.
        value: f64,
    },
    /// A table that gives a degree two figures.
    #[error("{name} has two entries for degree {degree}; one is the rule")]
    DegreeTwice {
        /// The table.
        name: &'static str,
        /// The degree.
        degree: u32,
    },
    /// A model without attention heads.
    #[error("num_heads is 0; a model has at least one attention head")]
    NoHeads,
}

/// A profile file that can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file itself.
    #[error("profile {} can't be read", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not TOML, or a key that is missing, unknown or of the wrong type.
    #[error("the profile is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A number that TOML has no form for.
    #[error("the profile can't be written")]
    Unwritable(#[from] toml::ser::Error),
    /// Memory that is negative, not a number, or beyond counting.
    #[error("{key} is {value}; it must be finite, not negative and below 2^34")]
    BadMemory {
        /// The key.
        key: &'static str,
        /// What it was given.
        value: f64,
    },
    /// Nothing to plan with.
    #[error(
        "the profile names neither model.num_heads nor model.degrees; one of them must say which degrees there are"
    )]
    NoDegrees,
    /// Listed nodes can't be multiplied.
    #[error("{asked} devices were asked for; the nodes the profile lists have {num_devices}")]
    TooFewDevices {
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        num_devices: u64,
    },
    /// A cost out of range.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// Another value out of range.
    #[error(transparent)]
    Value(#[from] CoreError),
}
