//! The decoder: its shape, its parameters, and the forward and backward of its layers.

mod config;
pub(crate) mod exchange;
pub(crate) mod init;
pub(crate) mod layer;
mod parameters;
pub(crate) mod ring;
mod rope;

pub use config::{Family, ModelConfig, ModelError, SlidingWindow};
pub use parameters::{LayerParameters, ModelSpec, ParameterKind, ParameterSpec, UnitSpec};
pub use rope::{Rope, RopeScaling};
