//! The load of a group: what its sequences take of each of its capacities.

use std::ops::{Add, Sub};

/// Bytes on each device and of its host, tokens of all devices together, and sequences: what a group may hold is limited by each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// On each device, of its host counted as such ([`JointMemory`](lengthwise_core::JointMemory)).
    pub(crate) memory: u64,
    /// Of each device's host, where the other does not say all; 0 elsewhere.
    pub(crate) host: u64,
    pub(crate) tokens: u64,
    pub(crate) sequences: u32,
}

impl Load {
    /// Whether there is room for it.
    pub(crate) fn fits(self, room: Load) -> bool {
        self.memory <= room.memory
            && self.host <= room.host
            && self.tokens <= room.tokens
            && self.sequences <= room.sequences
    }

    /// How many of `unit` make up at least this much, by every figure; no end of them where a unit has none of it.
    pub(crate) fn in_units_of(self, unit: Load) -> u32 {
        let of = |figure: u64, unit: u64| match figure {
            0 => 0,
            figure => u32::try_from(figure.div_ceil(unit.max(1))).unwrap_or(u32::MAX),
        };
        let memory = of(self.memory, unit.memory);
        memory
            .max(of(self.host, unit.host))
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
            .min(of(self.host, unit.host))
            .min(of(self.tokens, unit.tokens))
            .min(of(self.sequences.into(), unit.sequences.into()))
    }

    /// So many of it.
    pub(crate) fn times(self, count: u32) -> Self {
        Load {
            memory: self.memory.saturating_mul(count.into()),
            host: self.host.saturating_mul(count.into()),
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
            host: self.host.saturating_add(other.host),
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
            host: self.host.saturating_sub(other.host),
            tokens: self.tokens.saturating_sub(other.tokens),
            sequences: self.sequences.saturating_sub(other.sequences),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(most: u64) -> impl Strategy<Value = Load> {
        let figures = (0..most, 0..most, 0..most, 0..most as u32);
        figures.prop_map(|(memory, host, tokens, sequences)| Load {
            memory,
            host,
            tokens,
            sequences,
        })
    }

    proptest! {
        #[test]
        fn units_are_counted_until_they_make_up_a_load_or_fill_a_room(
            load in loads(40),
            unit in loads(5),
        ) {
            let fits = |load: Load, room: Load| {
                load.memory <= room.memory
                    && load.host <= room.host
                    && load.tokens <= room.tokens
                    && load.sequences <= room.sequences
            };
            prop_assert_eq!(load.fits(unit), fits(load, unit));
            let lacks = |figure: u64, unit: u64| figure > 0 && unit == 0;
            let is_endless = lacks(load.memory, unit.memory)
                || lacks(load.host, unit.host)
                || lacks(load.tokens, unit.tokens)
                || lacks(load.sequences.into(), unit.sequences.into());
            if !is_endless {
                let least = (0..).find(|&count| fits(load, unit.times(count)));
                prop_assert_eq!(Some(load.in_units_of(unit)), least);
            }
            if unit != Load::default() {
                let first_too_many = (0..).find(|&count| !fits(unit.times(count), load));
                prop_assert_eq!(Some(load.whole(unit) + 1), first_too_many);
            }
        }

        #[test]
        fn loads_are_added_and_taken_away_figure_by_figure(load in loads(100), other in loads(100)) {
            prop_assert_eq!(load + other - other, load);
            prop_assert_eq!(load.times(3), load + load + load);
            let left = load - other;
            prop_assert_eq!(left.memory, load.memory.saturating_sub(other.memory));
            prop_assert_eq!(left.host, load.host.saturating_sub(other.host));
            prop_assert_eq!(left.tokens, load.tokens.saturating_sub(other.tokens));
            prop_assert_eq!(left.sequences, load.sequences.saturating_sub(other.sequences));
        }
    }

    #[test]
    fn any_number_of_nothing_fits() {
        let load = Load {
            memory: 3,
            host: 3,
            tokens: 3,
            sequences: 3,
        };
        assert_eq!(load.whole(Load::default()), u32::MAX);
        assert_eq!(Load::default().in_units_of(load), 0);
        assert_eq!(Load::default().in_units_of(Load::default()), 0);
    }
}
