//! `lengthwise train`: settings in, a trained model's loss curve out.
//!
//! Steps and summary go to stdout, all else to stderr; with `--metrics` each step goes to a file as well.

mod costs;
mod failure;
mod files;
mod held_out;
mod longest;
mod machine;
mod metrics;
mod progress;
mod repetition;
mod resuming;
mod step_table;
mod summary;
mod tracing;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use lengthwise_core::{Rank, Seconds, TraceEvent};
use lengthwise_outputs::Outputs;
use lengthwise_plan::Planner;
use lengthwise_train::checkpoint::{SavedCheckpoint, StopRequest};
use lengthwise_train::{InjectedFailure, StepRecord, TrainObserver, TrainSummary, train};

use self::files::{DeclaredFiles, Ended, RunFiles};
use self::machine::ModelMemory;
use self::progress::Progress;
use self::resuming::SaveTime;
use self::summary::RunReport;
use crate::failure::Failure;
use crate::interruption::{AtInterruption, AtSignal};
use crate::metrics::run_name;
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
    /// Reads all kept tokens before training, and compares them with what was written; else that is done meanwhile.
    #[arg(long)]
    pub verify_cache: bool,
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
    settings.verifies_cache = args.verify_cache;
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
    let batches = settings.open_batches(output)?;
    let planner: Arc<dyn Planner> =
        Arc::from(settings.planner.planner_with(settings.planner_options));
    longest::check(&settings, &batches, planner.as_ref())?;
    if let (Some(held_out), Some(validation)) =
        (settings.open_held_out(output)?, &settings.validation)
    {
        longest::check(&settings, &held_out, planner.as_ref())?;
        settings.options.validation = Some(held_out::read(validation, held_out)?);
    }
    settings.tokenizer.release();
    if let Some(warning) = repetition::warning(settings.batch_size, batches.census()) {
        output.warning(&warning);
    }
    let checkpoint = resuming::checkpoint(&settings, &batches, output)?;
    for file in checkpoint.iter().flat_map(|checkpoint| checkpoint.paths()) {
        outputs.reads("a file of the checkpoint to go on from", &file);
    }
    let batches = resuming::following(batches, checkpoint.as_deref())
        .map_err(|error| Failure::input(error.to_string()))?;
    let run = match &checkpoint {
        Some(checkpoint) => checkpoint.record().run.clone(),
        None => run_name(),
    };
    let newest_saved = checkpoint.as_ref().map(|one| one.directory().to_owned());
    let stop = StopRequest::default();
    let save_time = SaveTime::of(checkpoint.as_deref());
    settings.options.persistence =
        resuming::persistence(&settings, &batches, checkpoint, &run, stop.clone())?;
    let declared = DeclaredFiles::new(outputs, &settings, output)?;
    let mut report = RunReport::new(&settings, &batches);
    output.note(&report.corpus());
    let model = ModelMemory::of(&settings.options);
    output.note(&model.note());
    if let Some(warning) = model.warning(machine::machine_memory()) {
        output.warning(&warning);
    }
    if let Some(validation) = &settings.options.validation {
        output.note(&summary::held_out(validation));
    }
    if let Some(emulated) = &settings.emulated {
        output.note(&format!("emulated   {emulated}"));
    }

    let files = Arc::new(Mutex::new(declared.open(&settings, &run)?));
    let _interruption = AtInterruption::run({
        let files = Arc::clone(&files);
        move || lock(&files).interrupt()
    });
    if let Some(warning) = lock(&files).unlocked() {
        output.warning(&warning);
    }

    // Before the first step there is nothing to save.
    let can_stop = Arc::new(AtomicBool::new(false));
    let _stopping = settings.options.persistence.save.is_some().then(|| {
        let (can_stop, save_time) = (Arc::clone(&can_stop), save_time.clone());
        AtSignal::ask(move |signal| {
            can_stop.load(Ordering::Relaxed).then(|| {
                stop.ask();
                let expected = save_time.expected();
                format!(
                    "stopping   by {signal}: the run finishes its step, saves its state ({expected}) and ends; a second \
                     signal ends it at once"
                )
            })
        })
    });

    let mut observer = Observer {
        can_stop,
        save_time,
        last_save: None,
        newest_saved,
        has_told_of_labels: false,
        files: Arc::clone(&files),
        progress: Progress::begin(
            settings.options.steps,
            settings.options.validation.is_some(),
            output,
        ),
        report: &mut report,
    };
    let result = train(&settings.options, planner, batches, &mut observer);
    observer.progress.end();
    let last_save = observer.last_save.take();
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
    if let Ok(TrainSummary {
        stopped: Some(step),
        ..
    }) = result
    {
        for problem in problems {
            output.warning(&problem);
        }
        return Err(match last_save {
            Some(Ok(path)) => Failure::stopped(format!(
                "stopped by a signal behind step {step} of {}; its state is in {}",
                settings.options.steps,
                path.display()
            ))
            .hint(format!("go on with: {}", resuming::command(&args))),
            Some(Err(error)) => Failure::run(format!(
                "stopped by a signal behind step {step}, and its state could not be saved: {error}"
            )),
            None => Failure::run(format!("stopped by a signal behind step {step}")),
        });
    }
    if let Some(Err(error)) = &last_save {
        problems.push(format!(
            "the state behind the last step could not be saved: {error}"
        ));
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
    /// Whether there is a state to save.
    can_stop: Arc<AtomicBool>,
    save_time: SaveTime,
    /// What became of the last state that was to be saved.
    last_save: Option<Result<PathBuf, String>>,
    /// The newest checkpoint, if there is one.
    newest_saved: Option<PathBuf>,
    /// Whether it was said that a step had none.
    has_told_of_labels: bool,
    files: Arc<Mutex<RunFiles>>,
    progress: Progress<'a, 'b>,
    report: &'a mut RunReport,
}

impl TrainObserver for Observer<'_, '_> {
    fn warned(&mut self, message: &str) {
        self.progress.warning(message);
    }

    fn costs_resumed(&mut self) {
        self.report.costs_are_resumed = true;
    }

    fn calibrated(&mut self, took: Seconds) {
        self.report.begun = true;
        self.can_stop.store(true, Ordering::Relaxed);
        let costs = match self.report.profile() {
            Some(profile) => format!("costs      of the profile {profile}"),
            None if self.report.costs_are_resumed => "costs      of the checkpoint".to_owned(),
            None => format!("costs      measured in {took}"),
        };
        self.progress.note(&costs);
    }

    fn saved(&mut self, saved: &SavedCheckpoint) {
        self.save_time.set(saved.took);
        self.last_save = Some(match &saved.saved {
            Ok(()) => {
                self.newest_saved = Some(saved.path.clone());
                Ok(saved.path.clone())
            }
            Err(error) => {
                let newest = match &self.newest_saved {
                    Some(path) => format!("{} stays", path.display()),
                    None => "there is no earlier one".to_owned(),
                };
                let error = format!("can't write {}: {error}; {newest}", saved.path.display());
                self.progress.warning(&format!(
                    "the state behind step {} can't be saved: {error}, and training goes on",
                    saved.step
                ));
                Err(error)
            }
        });
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
        if record.num_labels == 0 && !self.has_told_of_labels {
            self.has_told_of_labels = true;
            self.progress.warning(&format!(
                "step {} had no label: its sequences are prompts or parts of them, and nothing was learnt; a longer context, \
                 or larger batches, would hold answers too",
                record.step
            ));
        }
        let warning = lock(&self.files).step(record);
        if let Some(warning) = warning {
            self.progress.warning(&warning);
        }
        self.report.step(record);
    }
}
