//! Files of steps, one JSON object a line: what `train --metrics` writes and `report` reads.

/// The version of the lines; a line that readers of this version would misunderstand has another.
pub const VERSION: u64 = 1;
