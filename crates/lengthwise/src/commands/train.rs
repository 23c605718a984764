//! `lengthwise train`: settings in, a trained model's loss curve out.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::settings::Overrides;

/// Arguments of `lengthwise train`.
#[derive(Debug, Args)]
#[command(after_help = PRECEDENCE)]
pub struct TrainArgs {
    /// The settings file, in TOML.
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Settings that this run changes.
    #[command(flatten)]
    pub overrides: Overrides,
}

const PRECEDENCE: &str = "\
A setting is taken from the command line if it is there, else from the environment (LENGTHWISE_*), \
else from the file, else it has its default.";

/// Trains.
pub fn run(args: TrainArgs) -> Result<(), Failure> {
    let _ = args;
    Err(Failure::run("training is not there yet"))
}
