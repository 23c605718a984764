//! Waits: the ranks that wait, and for which others.

use std::fmt;

use lengthwise_core::Rank;

use crate::Call;
use crate::call::spaced;

/// Ranks that wait in one call of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The ranks that wait, increasing.
    pub ranks: Vec<Rank>,
    /// Whom they wait for, increasing.
    pub missing: Vec<Rank>,
    /// The call.
    pub call: Call,
    /// Which call of the group it is, counted from 1.
    pub position: u64,
    /// The group.
    pub members: Vec<Rank>,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait {
            ranks,
            missing,
            call,
            position,
            members,
        } = self;
        write!(
            f,
            "{} {} for {} in call {position} of the group {} ({call})",
            named(ranks),
            wait_or_waits(ranks),
            named(missing),
            spaced(members)
        )
    }
}

/// `rank 3`, or `ranks [0 1]`.
pub(crate) fn named(ranks: &[Rank]) -> String {
    match ranks {
        [rank] => format!("rank {rank}"),
        _ => format!("ranks {}", spaced(ranks)),
    }
}

/// What so many ranks do.
pub(crate) fn wait_or_waits(ranks: &[Rank]) -> &'static str {
    if ranks.len() == 1 { "waits" } else { "wait" }
}

/// One wait after the other.
pub(crate) fn listed(waits: &[Wait]) -> String {
    let waits: Vec<_> = waits.iter().map(Wait::to_string).collect();
    waits.join("; ")
}
