//! The decoder: its shape, its parameters, and the forward and backward of its layers.

mod config;

pub use config::{ModelConfig, ModelError};
