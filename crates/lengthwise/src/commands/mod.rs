//! One module for each subcommand: its arguments and what it does.

pub mod bench;
pub mod compare;
pub mod plan;
pub mod profile;
pub mod report;
pub mod simulate;
mod trace_file;
pub mod train;

use crate::cli::Command;
use crate::failure::Failure;

/// Runs a subcommand.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Bench(args) => bench::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Report(args) => report::run(&args),
        Command::Simulate(args) => simulate::run(*args),
        Command::Train(args) => train::run(args),
    }
}
