//! `lengthwise bench`: planners beside each other.

mod contexts;
mod emulated;
mod plan;
mod scaling;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::output::Output;

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
    /// Finds the longest sequences that models can be trained on, on described clusters.
    Contexts(contexts::BenchContextsArgs),
    /// Trains on an emulated cluster with several planners, beside what was predicted and simulated.
    Emulated(emulated::BenchEmulatedArgs),
    /// Plans recorded batches with several planners.
    Plan(plan::BenchPlanArgs),
    /// Plans ever larger drawn batches on ever more devices.
    Scaling(scaling::BenchScalingArgs),
}

/// Runs a benchmark.
pub fn run(args: BenchArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    match args.what {
        Bench::Contexts(args) => contexts::run(&args, output),
        Bench::Emulated(args) => emulated::run(&args, output),
        Bench::Plan(args) => plan::run(&args, output),
        Bench::Scaling(args) => scaling::run(&args, output),
    }
}
