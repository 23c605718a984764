//! How far a run has come in its corpus.

use std::fmt;

/// How far sequences have been drawn from a corpus: all that a run needs to know to go on with the batch that comes next,
/// beside corpus, rules and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How often the corpus has been begun, counted from 1.
    pub epoch: u64,
    /// Sequences drawn since then.
    pub num_drawn: u64,
}

impl Position {
    /// Where every corpus begins.
    pub const START: Position = Position {
        epoch: 1,
        num_drawn: 0,
    };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, sequence {}", self.epoch, self.num_drawn)
    }
}
