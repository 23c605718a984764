//! The steps of a run in PyTorch, as `lengthwise train` writes them.

use std::path::{Path, PathBuf};

use lengthwise::metrics::{
    self, MicroBatchMetrics, RankMetrics, StepMetrics, VERSION, microseconds,
};
use lengthwise_core::{Bytes, GlobalBatch, Seconds};
use lengthwise_cost::{CostModel, RecentErrors};
use lengthwise_inputs::GroupPrediction;
use lengthwise_outputs::{OutputError, Outputs};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::fault::Fault;
use crate::plan::{Plan, PlanData};
use crate::values;

/// What was measured of a step, as `lengthwise.torch` writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MeasuredStep {
    measured_s: f64,
    loss: Option<f64>,
    gradient_norm: Option<f64>,
    learning_rate: Option<f64>,
    plan_wait_s: f64,
    measured_peak_memory_bytes: Option<u64>,
    measured_peak_host_memory_bytes: Option<u64>,
    epoch: Option<u64>,
    pieces: Option<u64>,
    truncated: Option<u64>,
    cut_tokens: Option<u64>,
    compute_s: Vec<f64>,
    exchange_s: Vec<f64>,
    wait_s: Vec<f64>,
}

/// What was predicted of a step.
struct Predicted {
    step: Seconds,
    rest: Seconds,
    micro_batch_overhead: Seconds,
    groups: Vec<Vec<Seconds>>,
    costs_version: Option<u64>,
}

impl Predicted {
    /// By the costs that a plan was made with, or else by what is written in it.
    fn of(data: &PlanData) -> Result<Self, Fault> {
        let file = &data.file;
        if let Some(planning) = &data.planning {
            let seq_lens = file.lengths.seq_lens().iter().map(|seq_len| seq_len.0);
            let batch = GlobalBatch::from_lens(seq_lens)
                .map_err(|error| Fault::input(error.to_string()))?;
            let (model, cluster) = (planning.step_model(), &planning.costs.cluster);
            let micro_batches = file.plan.micro_batches().iter();
            return Ok(Predicted {
                step: model.predict_step(&file.plan, &batch, cluster),
                rest: model.step_overhead,
                micro_batch_overhead: model.cost.micro_batch_overhead(),
                groups: micro_batches
                    .map(|micro_batch| model.group_ends(micro_batch, &batch, cluster))
                    .collect(),
                costs_version: Some(planning.costs_version()),
            });
        }
        let written = file.predictions.as_ref();
        let groups = |index: usize| {
            let of_plan = file.plan.micro_batches()[index].groups.len();
            let times = written.and_then(|written| written.micro_batches.get(index));
            let times = times.map(|times| times.groups.iter().map(|group| group.predicted_time));
            times.map_or_else(|| vec![Seconds::ZERO; of_plan], Iterator::collect)
        };
        Ok(Predicted {
            step: written.map_or(Seconds::ZERO, |written| written.predicted_step),
            rest: Seconds::ZERO,
            micro_batch_overhead: Seconds::ZERO,
            groups: (0..file.plan.micro_batches().len()).map(groups).collect(),
            costs_version: None,
        })
    }
}

/// A file of steps, one JSON object a line, which ``lengthwise report`` reads.
///
/// Parameters
/// ----------
/// path : str or os.PathLike
///     The file. Where there is one, steps are added to it as those of another run, and counted on from its last.
#[pyclass(module = "lengthwise._lengthwise")]
pub(crate) struct MetricsFile {
    /// None once it is closed.
    file: Option<metrics::MetricsFile>,
    last_step: u64,
    recent_errors: RecentErrors,
}

impl MetricsFile {
    fn open(path: &Path) -> Result<Self, Fault> {
        let refused = |error: OutputError| {
            let fault = Fault::input(error.to_string());
            match error.hint() {
                Some(hint) => fault.with_hint(hint),
                None => fault,
            }
        };
        let output = Outputs::new().stream("metrics", path).map_err(refused)?;
        let last_step = metrics::MetricsFile::last_step(path).map_err(|error| {
            let message = format!("metrics: {} can't be added to: {error}", path.display());
            Fault::input(message).with_hint("choose another file for metrics")
        })?;
        Ok(MetricsFile {
            file: Some(metrics::MetricsFile::open(output, metrics::run_name()).map_err(refused)?),
            last_step,
            recent_errors: RecentErrors::default(),
        })
    }

    fn step_metrics(
        &mut self,
        data: &PlanData,
        measured: MeasuredStep,
    ) -> Result<StepMetrics, Fault> {
        let file = &data.file;
        let predicted = Predicted::of(data)?;
        let seq_lens = file.lengths.seq_lens();
        let tokens = seq_lens.iter().map(|seq_len| seq_len.0).sum();
        let degrees = file.plan.degrees();
        let degrees = degrees
            .iter()
            .map(|of| of.iter().map(|degree| degree.get()).collect());
        let has_figures = measured.measured_s > 0.0;
        let error = has_figures.then(|| predicted.step.get() / measured.measured_s - 1.0);
        let written = file.predictions.as_ref();
        let peak = |memory: fn(&GroupPrediction) -> Bytes| {
            let micro_batches = written.into_iter().flat_map(|of| &of.micro_batches);
            let groups = micro_batches.flat_map(|micro_batch| micro_batch.groups.iter());
            groups.map(memory).max().map(|peak| peak.0)
        };
        let columns = |column: &[f64]| {
            let times = column.iter();
            let times = times.map(|&time| Seconds::new(time.max(0.0)).unwrap_or(Seconds::ZERO));
            times.map(microseconds).collect()
        };
        self.last_step += 1;
        Ok(StepMetrics {
            version: Some(VERSION),
            run: None,
            planner: file.planner.clone(),
            step: self.last_step,
            loss: measured.loss,
            gradient_norm: measured.gradient_norm,
            learning_rate: measured.learning_rate,
            tokens,
            labels: None,
            sequences: seq_lens.len() as u64,
            micro_batches: degrees.collect(),
            predicted_s: predicted.step.get(),
            predicted_step_overhead_s: predicted.rest.get(),
            planned_s: written.map(|written| written.predicted_step.get()),
            measured_s: measured.measured_s,
            emulated_s: None,
            prediction_error: error,
            recent_error: error.map(|error| self.recent_errors.add(error)),
            costs_version: predicted.costs_version,
            tokens_per_s: has_figures.then(|| tokens as f64 / measured.measured_s),
            plan_wait_s: measured.plan_wait_s,
            lower_bound_s: written
                .and_then(|written| written.lower_bound)
                .map(Seconds::get),
            gap: written.and_then(|written| written.gap),
            stop_reason: written.and_then(|written| written.stop_reason.clone()),
            solve_s: written
                .and_then(|written| written.solve_time)
                .map(Seconds::get),
            predicted_peak_memory_bytes: peak(|group| group.predicted_memory),
            measured_peak_memory_bytes: measured.measured_peak_memory_bytes,
            predicted_peak_host_memory_bytes: peak(|group| group.predicted_host_memory)
                .filter(|&bytes| bytes > 0),
            measured_peak_host_memory_bytes: measured.measured_peak_host_memory_bytes,
            groups_created: None,
            epoch: measured.epoch,
            pieces: measured.pieces,
            truncated: measured.truncated,
            cut_tokens: measured.cut_tokens,
            validation: None,
            plan: MicroBatchMetrics::of_plan(
                &file.plan,
                seq_lens,
                &predicted.groups,
                predicted.micro_batch_overhead,
            ),
            ranks: RankMetrics {
                compute_s: columns(&measured.compute_s),
                exchange_s: columns(&measured.exchange_s),
                wait_s: columns(&measured.wait_s),
            },
        })
    }
}

#[pymethods]
impl MetricsFile {
    #[new]
    #[pyo3(signature = (path, /))]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let path = PathBuf::from(values::name("metrics", path)?);
        Self::open(&path).map_err(|fault| fault.raise(py))
    }

    /// Write a step.
    ///
    /// Parameters
    /// ----------
    /// plan : Plan
    ///     How it was run.
    /// measured : str
    ///     What was measured, in JSON.
    #[pyo3(signature = (plan, measured, /))]
    fn write(&mut self, py: Python<'_>, plan: &Bound<'_, Plan>, measured: &str) -> PyResult<()> {
        let data = &plan.get().0;
        let written = Fault::catch(|| {
            let measured: MeasuredStep = serde_json::from_str(measured)
                .map_err(|error| Fault::input(format!("a measured step: {error}")))?;
            let step = self.step_metrics(data, measured)?;
            let Some(file) = &mut self.file else {
                return Err(Fault::input("the file of metrics is closed".to_owned()));
            };
            let path = file.path().display().to_string();
            file.write(step)
                .map_err(|error| Fault::input(format!("can't write metrics to {path}: {error}")))
        });
        written.map_err(|fault| fault.raise(py))
    }

    /// End the file: steps that it does not take go to another.
    ///
    /// Returns
    /// -------
    /// str or None
    ///     What became of steps that are not in the file, if there are any.
    #[pyo3(signature = ())]
    fn close(&mut self) -> Option<String> {
        let file = self.file.take()?;
        match file.finish() {
            Ok(saved) => saved.elsewhere("the last steps of the metrics"),
            Err(error) => Some(format!("the last steps of the metrics are lost: {error}")),
        }
    }
}
