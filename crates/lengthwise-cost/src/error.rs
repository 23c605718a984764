//! What can be wrong with measured or written costs.

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
