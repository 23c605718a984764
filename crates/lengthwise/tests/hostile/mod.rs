//! The parts of the walk with bad values.

pub mod bench;
pub mod commands;
pub mod files;
pub mod values;
