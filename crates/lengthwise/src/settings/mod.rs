//! What a run is told: command line > environment > file > default.

mod overrides;

pub use overrides::Overrides;
