//! `lengthwise train`: settings in, a trained model's loss curve out.
//!
//! Steps and summary go to stdout, all else to stderr; with `--metrics` each step goes to a file as well.

mod costs;
mod failure;
mod longest;
mod metrics;
mod progress;
mod repetition;
mod step_table;
mod summary;
mod tracing;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lengthwise_core::{Rank, Seconds, TraceEvent};
use lengthwise_plan::Planner;
use lengthwise_train::{InjectedFailure, StepRecord, TrainObserver, train};

use self::metrics::MetricsFile;
use self::progress::Progress;
use self::summary::RunReport;
use self::tracing::Tracing;
use crate::failure::Failure;
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
    if args.show_settings {
        output.result_line(&settings.shown);
        return Ok(());
    }
    settings.options.costs = costs::profiled(&settings)?;
    let batches = settings.open_batches()?;
    let planner: Arc<dyn Planner> =
        Arc::from(settings.planner.planner_with(settings.planner_options));
    longest::check(&settings, &batches, planner.as_ref())?;
    if let Some(warning) = repetition::warning(settings.batch_size, batches.census()) {
        output.warning(&warning);
    }
    let metrics = match &settings.metrics {
        Some(metrics) => Some(MetricsFile::create(metrics, settings.planner)?),
        None => None,
    };
    let tracing = match &settings.trace {
        Some(trace) => Some(Tracing::create(trace, &settings.options.cluster)?),
        None => None,
    };
    let mut report = RunReport::new(&settings, &batches);
    output.note(&report.corpus());
    if let Some(emulated) = &settings.emulated {
        output.note(&format!("emulated   {emulated}"));
    }

    let mut observer = Observer {
        metrics,
        tracing,
        progress: Progress::begin(settings.options.steps, output),
        report: &mut report,
    };
    let result = train(&settings.options, planner, batches, &mut observer);
    let (metrics, tracing) = observer.end();
    let summary = result.map_err(|error| failure::of_training(error, &report))?;
    output.result_line(&report.summary(&summary));
    if let Some(tracing) = tracing {
        output.note(&tracing.end()?);
    }
    metrics.map_or(Ok(()), MetricsFile::end)
}

/// Shows, records and sums up every step.
struct Observer<'a, 'b> {
    metrics: Option<MetricsFile>,
    tracing: Option<Tracing>,
    progress: Progress<'a, 'b>,
    report: &'a mut RunReport,
}

impl Observer<'_, '_> {
    /// The files, once the last step is shown.
    fn end(self) -> (Option<MetricsFile>, Option<Tracing>) {
        self.progress.end();
        (self.metrics, self.tracing)
    }
}

impl TrainObserver for Observer<'_, '_> {
    fn calibrated(&mut self, took: Seconds) {
        self.report.begun = true;
        let costs = match self.report.profile() {
            Some(profile) => format!("costs      of the profile {profile}"),
            None => format!("costs      measured in {took}"),
        };
        self.progress.note(&costs);
    }

    fn traced(&mut self, step: u64, events: &[TraceEvent]) {
        if let Some(tracing) = &mut self.tracing {
            tracing.step(step, events);
        }
    }

    fn step(&mut self, record: &StepRecord) {
        self.progress.step(record);
        if let Some(metrics) = &mut self.metrics
            && let Some(warning) = metrics.write(record)
        {
            self.progress.warning(&warning);
        }
        self.report.step(record);
    }
}
