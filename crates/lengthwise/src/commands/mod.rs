//! One module for each subcommand: its arguments and what it does. None uses another: what several need stands below.

pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod plan;
pub mod profile;
pub mod report;
pub mod simulate;
pub mod train;
pub mod verify;

use crate::cli::Command;
use crate::failure::Failure;
use crate::output::Output;

/// Runs a subcommand.
pub fn run(command: Command, output: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::Bench(args) => bench::run(args, output),
        Command::Checkpoint(args) => checkpoint::run(args, output),
        Command::Compare(args) => compare::run(args, output),
        Command::Plan(args) => plan::run(args, output),
        Command::Profile(args) => profile::run(args, output),
        Command::Report(args) => report::run(&args, output),
        Command::Simulate(args) => simulate::run(*args, output),
        Command::Train(args) => train::run(args, output),
        Command::Verify(args) => verify::run(*args, output),
    }
}
