//! What can be typed.

use clap::{Parser, Subcommand};

use crate::commands::bench::BenchArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::train::TrainArgs;

/// Trains large language models on long, wildly uneven sequences, with plans that adapt to every batch.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands; each has its own module in `commands`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compares planners on recorded batches.
    Bench(BenchArgs),
    /// Plans one step for a list of sequence lengths.
    Plan(PlanArgs),
    /// Trains a decoder as a settings file describes.
    Train(TrainArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
