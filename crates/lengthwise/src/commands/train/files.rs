//! What a run writes while it goes on, and at its end.

use std::path::PathBuf;

use lengthwise_outputs::{FileOutput, OutputError, Outputs, StreamOutput};
use lengthwise_train::{MODEL_FILES, StepRecord};

use super::metrics::step_metrics;
use super::tracing::Tracing;
use crate::failure::Failure;
use crate::metrics::MetricsFile;
use crate::output::Output;
use crate::saved;
use crate::settings::{Setting, TrainSettings};

/// The outputs of a run, declared and tried.
pub struct DeclaredFiles {
    metrics: Option<StreamOutput>,
    trace: Option<FileOutput>,
}

impl DeclaredFiles {
    /// Declares all that the run writes, and reads beside its settings.
    pub fn new(
        mut outputs: Outputs,
        settings: &TrainSettings,
        output: &Output<'_>,
    ) -> Result<Self, Failure> {
        output.declare(&mut outputs)?;
        let metrics = settings.metrics.as_ref();
        let metrics = metrics.map(|setting| metrics_output(&mut outputs, setting));
        let trace = settings.trace.as_ref().map(|setting| {
            let output = outputs.file("the trace", &setting.value);
            output.map_err(|error| refused(setting, &error))
        });
        if let Some(setting) = &settings.export {
            outputs
                .directory("the model", &setting.value, MODEL_FILES)
                .map_err(|error| refused(setting, &error))?;
        }
        if let Some(setting) = &settings.checkpoint.directory {
            outputs
                .directory("the checkpoints", &setting.value, &[])
                .map_err(|error| refused(setting, &error))?;
        }
        Ok(DeclaredFiles {
            metrics: metrics.transpose()?,
            trace: trace.transpose()?,
        })
    }

    /// Opens them, after all else has been checked.
    pub fn open(self, settings: &TrainSettings, run: &str) -> Result<RunFiles, Failure> {
        let metrics = self
            .metrics
            .map(|metrics| MetricsFile::open(metrics, run.to_owned()));
        let trace = self
            .trace
            .map(|output| Tracing::create(output, &settings.options.cluster));
        Ok(RunFiles {
            metrics: metrics.transpose()?,
            tracing: trace.transpose()?,
            planner: settings.planner.to_string(),
            last_step: None,
            export: settings.options.export.clone(),
        })
    }
}

fn metrics_output(
    outputs: &mut Outputs,
    setting: &Setting<PathBuf>,
) -> Result<StreamOutput, Failure> {
    let output = outputs.stream("the metrics file", &setting.value);
    let output = output.map_err(|error| refused(setting, &error))?;
    MetricsFile::last_step(&setting.value).map_err(|error| {
        let rule = format!("nothing can be added to it: {error}");
        setting.breaks(rule).hint("choose another file for metrics")
    })?;
    Ok(output)
}

fn refused(setting: &Setting<PathBuf>, error: &OutputError) -> Failure {
    let failure = setting.breaks(error.rule());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The files of a run that has begun.
pub struct RunFiles {
    metrics: Option<MetricsFile>,
    tracing: Option<Tracing>,
    planner: String,
    last_step: Option<u64>,
    export: Option<PathBuf>,
}

/// What became of the files of a run.
#[derive(Debug, Default)]
pub struct Ended {
    /// What is where it was to be.
    pub notes: Vec<String>,
    /// What is not.
    pub problems: Vec<String>,
}

impl RunFiles {
    /// What to say if nothing keeps two runs from writing to one file.
    pub fn unlocked(&self) -> Option<String> {
        self.metrics.as_ref().and_then(MetricsFile::unlocked)
    }

    /// Writes a step; a warning if that fails for the first time.
    pub fn step(&mut self, record: &StepRecord) -> Option<String> {
        self.last_step = Some(record.step);
        let metrics = self.metrics.as_mut()?;
        let error = metrics.write(step_metrics(record, &self.planner)).err()?;
        let path = metrics.path().display();
        Some(format!(
            "can't write metrics to {path}: {error}; training goes on, and they are kept until they can be written"
        ))
    }

    /// What is traced to, if something is.
    pub fn tracing(&mut self) -> Option<&mut Tracing> {
        self.tracing.as_mut()
    }

    /// Ends all of them.
    pub fn end(&mut self) -> Ended {
        let mut ended = Ended::default();
        if let Some(tracing) = self.tracing.take() {
            let (note, problem) = tracing.end();
            ended.notes.extend(note);
            ended.problems.extend(problem);
        }
        if let Some(metrics) = self.metrics.take() {
            let what = match metrics.num_kept() {
                0 => "what was measured".to_owned(),
                1 => "the last step of the metrics".to_owned(),
                kept => format!("what was measured in {kept} steps"),
            };
            ended
                .problems
                .extend(saved::problem(&what, &metrics.finish()));
        }
        ended
    }

    /// Ends all of them, for a run that goes no further; says what is saved.
    pub fn interrupt(&mut self) -> Vec<String> {
        // Where no step was finished, there is nothing in them.
        let metrics = self.metrics.as_ref().filter(|_| self.last_step.is_some());
        let metrics = metrics.map(|metrics| metrics.path().display().to_string());
        let ended = self.end();
        let mut said = vec![match self.last_step {
            Some(step) => format!("the last finished step is {step}"),
            None => "no step was finished".to_owned(),
        }];
        if let (Some(metrics), true) = (metrics, ended.problems.is_empty()) {
            said.push(format!("metrics are in {metrics}"));
        }
        said.extend(
            ended
                .notes
                .iter()
                .map(|note| note.replace("trace      ", "traced are ")),
        );
        said.extend(ended.problems);
        if self.export.is_some() {
            said.push("the model was not saved".to_owned());
        }
        said
    }
}
