//! `lengthwise bench`: planners beside each other.

mod plan;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// Arguments of `lengthwise bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to compare.
    #[command(subcommand)]
    pub what: Bench,
}

/// What can be compared.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Plans recorded batches with several planners.
    Plan(plan::BenchPlanArgs),
}

/// Runs a benchmark.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.what {
        Bench::Plan(args) => plan::run(&args),
    }
}
