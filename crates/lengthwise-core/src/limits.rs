//! How large counts and lengths from outside may be: checked before memory or time is taken for them.
//!
//! Each is far beyond what is trained today, and small enough that sums of such values neither overflow nor lose their
//! meaning. What an error says of one is [`Limit`]'s words, the same wherever it is checked.

use std::fmt;

use crate::{Bytes, Seconds, Tokens};

/// Tokens of the longest sequence: 2^40.
pub const SEQ_LEN: Limit<u64> = Limit::new(1, 1 << 40);

/// Sequences of a global batch: fewer than 2^24, so that their tokens are fewer than 2^64.
pub const BATCH_SEQUENCES: Limit<u64> = Limit::new(1, (1 << 24) - 1);

/// Tokens of a global batch that is read and trained on: 2^32.
pub const BATCH_TOKENS: Limit<u64> = Limit::new(1, 1 << 32);

/// Optimiser steps of a run: 2^40.
pub const STEPS: Limit<u64> = Limit::new(1, 1 << 40);

/// Threads to plan on.
pub const THREADS: Limit<u64> = Limit::new(1, 1024);

/// NICs of a node.
pub const NICS_PER_NODE: Limit<u64> = Limit::new(1, 1024);

/// Repetitions, and batches of a benchmark.
pub const REPETITIONS: Limit<u64> = Limit::new(1, 100_000);

/// Bytes of a file that is read as a whole: 256 MiB.
pub const FILE_BYTES: u64 = 1 << 28;

/// Memory of a device, beyond which sums of bytes could not be counted: 2^53 bytes, 8 PiB.
pub const DEVICE_MEMORY: Bytes = Bytes(1 << 53);

/// The longest time that any one cost of a sequence may be: 1e15 s.
pub const SEQUENCE_S: f64 = 1e15;

/// The most memory that any one cost of a sequence may be: 2^60 bytes.
pub const SEQUENCE_BYTES: f64 = (1u64 << 60) as f64;

/// The longest duration from outside: 30 days.
pub const DURATION_S: f64 = 30.0 * 86_400.0;

/// The slowest link: what crosses a slower one would never arrive.
pub const BANDWIDTH_BYTES_PER_S: f64 = 1.0;

/// The slowest device: what it computes would never end.
pub const FLOPS_PER_S: f64 = 1.0;

/// The smallest part of a processor core that an emulated device stands for.
pub const CORE_FRACTION: f64 = 1e-4;

/// The least and the most that a count may be.
///
/// ```
/// use lengthwise_core::limits::THREADS;
/// assert!(THREADS.holds(8) && !THREADS.holds(0));
/// assert_eq!(THREADS.to_string(), "a whole number from 1 to 1024");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
}

impl Limit<u64> {
    /// From the one to the other, both allowed.
    pub const fn new(least: u64, most: u64) -> Self {
        Limit { least, most }
    }

    /// Whether a count is allowed.
    pub const fn holds(self, count: u64) -> bool {
        self.least <= count && count <= self.most
    }

    /// The count that a text is, or the rule that it breaks.
    ///
    /// # Errors
    ///
    /// The text is no whole number in range.
    pub fn read(self, text: &str) -> Result<u64, String> {
        let count = text.trim().parse().ok();
        count
            .filter(|&count| self.holds(count))
            .ok_or_else(|| format!("it must be {self}"))
    }

    /// The most as tokens.
    pub const fn most_tokens(self) -> Tokens {
        Tokens(self.most)
    }
}

impl fmt::Display for Limit<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.least, self.most)
    }
}

/// Whether a duration from outside is one that can be waited for.
pub fn is_waitable(duration: Seconds) -> bool {
    duration > Seconds::ZERO && duration.get() <= DURATION_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_within_their_limits_only() {
        let limit = Limit::new(2, 5);
        assert_eq!(limit.read(" 5 "), Ok(5));
        for text in ["1", "6", "-3", "2.5", "", "1e3", "18446744073709551616"] {
            assert_eq!(
                limit.read(text),
                Err("it must be a whole number from 2 to 5".to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_largest_batch_of_the_longest_sequences_can_be_summed_up() {
        let tokens = SEQ_LEN.most.checked_mul(BATCH_SEQUENCES.most);
        assert!(tokens.is_some());
        assert!((SEQUENCE_S * BATCH_SEQUENCES.most as f64).is_finite());
    }
}
