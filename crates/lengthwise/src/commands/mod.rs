//! One module for each subcommand: its arguments and what it does.

pub mod train;

use crate::cli::Command;
use crate::failure::Failure;

/// Runs a subcommand.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::run(args),
    }
}
