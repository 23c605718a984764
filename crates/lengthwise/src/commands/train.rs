//! `lengthwise train`: settings in, a trained model's loss curve out.
//!
//! Steps and summary go to stdout, all else to stderr; with `--metrics` each step goes to a file as well.

mod costs;
mod failure;
mod files;
mod longest;
mod metrics;
mod progress;
mod repetition;
mod step_table;
mod summary;
mod tracing;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use lengthwise_core::{Rank, Seconds, TraceEvent};
use lengthwise_outputs::Outputs;
use lengthwise_plan::Planner;
use lengthwise_train::{InjectedFailure, StepRecord, TrainObserver, train};

use self::files::{DeclaredFiles, Ended, RunFiles};
use self::progress::Progress;
use self::summary::RunReport;
use crate::failure::Failure;
use crate::interruption::AtInterruption;
use crate::output::Output;
use crate::settings::{Overrides, SettingsFile, TrainSettings};

/// Arguments of `lengthwise train`.
#[derive(Debug, Args)]
#[command(after_help = PRECEDENCE)]
pub struct TrainArgs {
    /// The settings file, in TOML.
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Shows every setting, and where it comes from, instead of training.
    #[arg(long)]
    pub show_settings: bool,
    /// Makes a rank fail before a step, to rehearse how a job ends when one does.
    #[arg(long, hide = true, value_name = "RANK:STEP", value_parser = parse_injected_failure)]
    pub inject_failure: Option<InjectedFailure>,
    /// Settings that this run changes.
    #[command(flatten)]
    pub overrides: Overrides,
}

const PRECEDENCE: &str = "\
A setting is taken from the command line if it is there, else from the environment (LENGTHWISE_*), \
else from the file, else it has its default. In paths, ~ and ${VARIABLE:-default} are replaced; a relative \
path starts from the directory of the file it is written in, or from the working directory.";

fn parse_injected_failure(text: &str) -> Result<InjectedFailure, String> {
    let (rank, step) = text.split_once(':').ok_or("write it like 3:2")?;
    let number = |_| "rank and step are whole numbers".to_owned();
    Ok(InjectedFailure {
        rank: Rank(rank.parse().map_err(number)?),
        step: step.parse().map_err(number)?,
    })
}

/// Trains.
pub fn run(args: TrainArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let file = SettingsFile::read(&args.config)?;
    let mut settings = TrainSettings::read(&file, &args.overrides)?;
    settings.options.injected_failure = args.inject_failure;
    let mut outputs = Outputs::new();
    settings.declare(&args.config, &mut outputs);
    if let Some(profile) = &settings.profile {
        outputs.reads("the profile", &profile.value);
    }
    if args.show_settings {
        output.declare(&mut outputs)?;
        output.result_line(&settings.shown);
        return Ok(());
    }
    settings.open_model()?;
    settings.options.costs = costs::profiled(&settings)?;
    let batches = settings.open_batches()?;
    let planner: Arc<dyn Planner> =
        Arc::from(settings.planner.planner_with(settings.planner_options));
    longest::check(&settings, &batches, planner.as_ref())?;
    if let Some(warning) = repetition::warning(settings.batch_size, batches.census()) {
        output.warning(&warning);
    }
    let declared = DeclaredFiles::new(outputs, &settings, output)?;
    let mut report = RunReport::new(&settings, &batches);
    output.note(&report.corpus());
    if let Some(emulated) = &settings.emulated {
        output.note(&format!("emulated   {emulated}"));
    }

    let files = Arc::new(Mutex::new(declared.open(&settings)?));
    let _interruption = AtInterruption::run({
        let files = Arc::clone(&files);
        move || lock(&files).interrupt()
    });
    if let Some(warning) = lock(&files).unlocked() {
        output.warning(&warning);
    }

    let mut observer = Observer {
        files: Arc::clone(&files),
        progress: Progress::begin(settings.options.steps, output),
        report: &mut report,
    };
    let result = train(&settings.options, planner, batches, &mut observer);
    observer.progress.end();
    let Ended {
        notes,
        mut problems,
    } = lock(&files).end();
    if let Ok(summary) = &result {
        output.result_line(&report.summary(summary));
        problems.extend(match &summary.export {
            Some(Ok(saved)) => saved.elsewhere("the trained model"),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        });
    }
    for note in notes {
        output.note(&note);
    }
    match result {
        Ok(_) if problems.is_empty() => Ok(()),
        Ok(_) => Err(Failure::unsaved(problems.join("; "))),
        Err(error) => {
            for problem in problems {
                output.warning(&problem);
            }
            Err(failure::of_training(error, &report))
        }
    }
}

fn lock(files: &Mutex<RunFiles>) -> MutexGuard<'_, RunFiles> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows, records and sums up every step.
struct Observer<'a, 'b> {
    files: Arc<Mutex<RunFiles>>,
    progress: Progress<'a, 'b>,
    report: &'a mut RunReport,
}

impl TrainObserver for Observer<'_, '_> {
    fn warned(&mut self, message: &str) {
        self.progress.warning(message);
    }

    fn calibrated(&mut self, took: Seconds) {
        self.report.begun = true;
        let costs = match self.report.profile() {
            Some(profile) => format!("costs      of the profile {profile}"),
            None => format!("costs      measured in {took}"),
        };
        self.progress.note(&costs);
    }

    fn traced(&mut self, step: u64, events: &[TraceEvent]) {
        let mut files = lock(&self.files);
        let warning = files
            .tracing()
            .and_then(|tracing| tracing.step(step, events));
        drop(files);
        if let Some(warning) = warning {
            self.progress.warning(&warning);
        }
    }

    fn step(&mut self, record: &StepRecord) {
        self.progress.step(record);
        let warning = lock(&self.files).step(record);
        if let Some(warning) = warning {
            self.progress.warning(&warning);
        }
        self.report.step(record);
    }
}
