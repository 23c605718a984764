//! What a run is told: command line > environment > file > default.

mod overrides;
mod place;
mod reader;
mod train;
mod value;

pub use overrides::{OverrideSource, Overrides};
pub use place::Setting;
pub use reader::SettingsFile;
pub use train::{TrainSettings, ValidationSettings};
