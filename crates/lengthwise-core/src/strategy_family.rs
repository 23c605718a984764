//! The families of strategies that a planner may be held to.

use std::fmt;

use crate::{Exchange, Strategy};

/// Strategies that exchange alike, whatever their degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrategyFamily {
    /// Tokens for heads by all-to-all over the whole group; also of a rank on its own.
    Ulysses,
    /// Key/value blocks passed around the whole group.
    Ring,
    /// Both: rings whose places exchange tokens for heads.
    Hybrid,
}

impl StrategyFamily {
    /// All of them.
    pub const ALL: [StrategyFamily; 3] = [
        StrategyFamily::Ulysses,
        StrategyFamily::Ring,
        StrategyFamily::Hybrid,
    ];

    /// Its name in files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            StrategyFamily::Ulysses => "ulysses",
            StrategyFamily::Ring => "ring",
            StrategyFamily::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for StrategyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Exchange {
    /// The family of strategies that exchange so.
    pub const fn family(self) -> StrategyFamily {
        match self {
            Exchange::Ulysses => StrategyFamily::Ulysses,
            Exchange::Ring => StrategyFamily::Ring,
            Exchange::UlyssesRing { .. } => StrategyFamily::Hybrid,
        }
    }
}

impl Strategy {
    /// The family it is of.
    pub fn family(self) -> StrategyFamily {
        self.kind().exchange.family()
    }
}
