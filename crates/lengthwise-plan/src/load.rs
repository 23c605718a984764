//! The load of a group: what its sequences take of each of its capacities.

use std::ops::{Add, Sub};

/// Bytes on each device, tokens of all devices together, and sequences: what a group may hold is limited by each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) memory: u64,
    pub(crate) tokens: u64,
    pub(crate) sequences: u32,
}

impl Load {
    /// Whether there is room for it.
    pub(crate) fn fits(self, room: Load) -> bool {
        self.memory <= room.memory && self.tokens <= room.tokens && self.sequences <= room.sequences
    }

    /// How many of `unit` make up at least this much, by every figure; no end of them where a unit has none of it.
    pub(crate) fn in_units_of(self, unit: Load) -> u32 {
        let of = |figure: u64, unit: u64| match figure {
            0 => 0,
            figure => u32::try_from(figure.div_ceil(unit.max(1))).unwrap_or(u32::MAX),
        };
        let memory = of(self.memory, unit.memory);
        memory
            .max(of(self.tokens, unit.tokens))
            .max(of(self.sequences.into(), unit.sequences.into()))
    }

    /// How many of `unit` there is room for.
    pub(crate) fn whole(self, unit: Load) -> u32 {
        let of = |figure: u64, unit: u64| match unit {
            0 => u32::MAX,
            unit => u32::try_from(figure / unit).unwrap_or(u32::MAX),
        };
        of(self.memory, unit.memory)
            .min(of(self.tokens, unit.tokens))
            .min(of(self.sequences.into(), unit.sequences.into()))
    }

    /// So many of it.
    pub(crate) fn times(self, count: u32) -> Self {
        Load {
            memory: self.memory.saturating_mul(count.into()),
            tokens: self.tokens.saturating_mul(count.into()),
            sequences: self.sequences.saturating_mul(count),
        }
    }
}

impl Add for Load {
    type Output = Load;

    fn add(self, other: Load) -> Load {
        Load {
            memory: self.memory.saturating_add(other.memory),
            tokens: self.tokens.saturating_add(other.tokens),
            sequences: self.sequences.saturating_add(other.sequences),
        }
    }
}

/// The load that is left; nothing where there is less.
impl Sub for Load {
    type Output = Load;

    fn sub(self, other: Load) -> Load {
        Load {
            memory: self.memory.saturating_sub(other.memory),
            tokens: self.tokens.saturating_sub(other.tokens),
            sequences: self.sequences.saturating_sub(other.sequences),
        }
    }
}
