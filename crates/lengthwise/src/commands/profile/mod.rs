//! `lengthwise profile`: the settings of a training in, what its steps cost on this machine out.

mod progress;
mod table;

use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lengthwise_outputs::Outputs;
use lengthwise_train::{Clock, MeasuringRule, TrainError, measure_costs, profile};

use self::progress::Progress;
use crate::arguments::duration;
use crate::failure::Failure;
use crate::output::Output;
use crate::saved::check_saved;
use crate::settings::{Overrides, SettingsFile, TrainSettings};

/// Arguments of `lengthwise profile`.
#[derive(Debug, Args)]
#[command(mut_args(Overrides::hide_of_trainings))]
pub struct ProfileArgs {
    /// The settings file, in TOML, of the training to measure for.
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Where the profile is written, in TOML.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How long measuring may take, for example 5min; a third of it is for micro-batches that the fit has not seen.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub time_budget: Duration,
    /// What time is measured by.
    #[arg(long, value_enum, default_value_t)]
    pub clock: ClockKind,
    /// Settings that this run changes.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What time is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClockKind {
    /// The time that passes.
    #[default]
    Wall,
    /// The processor time that ranks take, by the cores they share: for a machine that is busy with other work.
    Processor,
}

/// The clock that is meant, if the ranks of a run can be timed by it.
fn clock(kind: ClockKind, settings: &TrainSettings) -> Result<Clock, Failure> {
    if kind == ClockKind::Wall {
        return Ok(Clock::Wall);
    }
    let options = &settings.options;
    let num_ranks = options.cluster.num_devices();
    let num_cores = available_parallelism().map_or(1, NonZero::get);
    let num_cores = u32::try_from(num_cores).unwrap_or(u32::MAX);
    if options.emulation.is_some() || num_ranks <= num_cores {
        let message = format!(
            "--clock processor: {num_ranks} ranks do not take turns on {num_cores} cores; processor time tells how long \
             they take only where they do"
        );
        return Err(Failure::input(message).hint("leave it out to measure the time that passes"));
    }
    let missing = || Failure::input("--clock processor: this system does not tell processor time");
    Clock::processor(num_cores).ok_or_else(missing)
}

/// Measures, fits and writes.
pub fn run(args: ProfileArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let file = SettingsFile::read(&args.config)?;
    let why = "it has no effect on what lengthwise profile measures";
    args.overrides.refuse_of_trainings(why)?;
    let settings = TrainSettings::read(&file, &args.overrides)?;
    let mut outputs = Outputs::new();
    settings.declare(&args.config, &mut outputs);
    output.declare(&mut outputs)?;
    let file = outputs.file("--output", &args.output)?;
    let name = args.output.file_stem().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();

    let progress = Progress::begin(output);
    let rule = MeasuringRule {
        clock: clock(args.clock, &settings)?,
        ..MeasuringRule::thorough(args.time_budget)
    };
    let measured = measure_costs(&settings.options, &rule, &|so_far| progress.show(&so_far));
    progress.end();
    let measured = measured.map_err(|error| match error {
        TrainError::Model(_) | TrainError::Core(_) | TrainError::ModelTooLarge { .. } => {
            Failure::input(error.to_string())
        }
        _ => Failure::run(error.to_string()),
    })?;
    let profile = profile(&name, &settings.options, &measured);
    let text = profile
        .to_toml()
        .map_err(|error| Failure::run(error.to_string()))?;
    let saved = file.write(text.as_bytes());
    for line in table::lines(&profile) {
        output.result_line(&line);
    }
    check_saved("the profile", &saved)?;
    let path = args.output.display();
    output.note(&format!("wrote {path}; train --profile {path} plans by it"));
    Ok(())
}
