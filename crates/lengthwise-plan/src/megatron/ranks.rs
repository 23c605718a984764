//! The ranks that micro-batches are formed on, and what a rank may hold.

use std::fmt::Write;

use lengthwise_core::{Sequence, Tokens};

/// The machine as the rule knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranks {
    pub(super) num: u32,
    /// The most tokens of a rank; at least 1.
    pub(super) tokens_per_rank: Tokens,
    /// The smallest degree that groups may have.
    pub(super) min_degree: u32,
}

impl Ranks {
    /// The smallest degree of a group for a sequence of this length: a power of two unless the smallest allowed is larger.
    pub(super) fn least_degree(&self, seq_len: Tokens) -> u64 {
        let needed = seq_len.0.div_ceil(self.tokens_per_rank.0);
        let needed = needed.checked_next_power_of_two().unwrap_or(u64::MAX);
        needed.max(self.min_degree.into())
    }
}

/// Some consecutive ranks that share sequences. Groups of a micro-batch are listed in the order of their ranks, without
/// gaps; ranks that are in none come last.
#[derive(Clone, Debug)]
pub(super) struct RankGroup {
    pub(super) degree: u32,
    pub(super) sequences: Vec<Sequence>,
}

/// The number of ranks that are in a group.
pub(super) fn num_busy(groups: &[RankGroup]) -> u32 {
    groups.iter().map(|group| group.degree).sum()
}

/// The degrees of some groups, to read: "4 + 2 + 1".
pub(super) fn listed_degrees(groups: &[RankGroup]) -> String {
    let mut list = String::new();
    for group in groups {
        let plus = if list.is_empty() { "" } else { " + " };
        // Writing to a string can't fail.
        let _ = write!(list, "{plus}{}", group.degree);
    }
    list
}
