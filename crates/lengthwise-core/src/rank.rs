//! Who works: ranks, and how many of them share a sequence.

use std::fmt;
use std::num::NonZeroU32;

use crate::CoreError;

/// The index of a worker, one device each: global, or inside a group where it says group rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u32);

impl Rank {
    /// As an index into per-rank lists.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many ranks share the sequences of a group; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Degree(NonZeroU32);

impl Degree {
    /// A device on its own: no exchange.
    pub const ONE: Degree = Degree(NonZeroU32::MIN);

    /// `degree`, unless it is 0.
    pub fn new(degree: u32) -> Result<Self, CoreError> {
        NonZeroU32::new(degree)
            .map(Degree)
            .ok_or(CoreError::ZeroDegree)
    }

    /// The number of ranks.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// As a length of per-rank lists.
    pub const fn as_usize(self) -> usize {
        self.0.get() as usize
    }
}

impl fmt::Display for Degree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
