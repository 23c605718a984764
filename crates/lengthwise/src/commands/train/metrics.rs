//! One JSON object a step.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lengthwise_core::{Degree, Seconds};
use lengthwise_plan::{PlannerKind, StopReason};
use lengthwise_train::{RankTime, StepRecord};
use serde::Serialize;

use crate::failure::Failure;
use crate::metrics::VERSION;
use crate::settings::Setting;

/// What is written of a step. A figure that is no number is `null`.
#[derive(Serialize)]
struct StepMetrics<'a> {
    version: u64,
    planner: &'a str,
    step: u64,
    loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    tokens: u64,
    sequences: usize,
    /// The degrees of the groups of each micro-batch.
    micro_batches: Vec<Vec<u32>>,
    predicted_s: f64,
    /// The part of it that comes beside the micro-batches.
    predicted_step_overhead_s: f64,
    /// What the planner made of it, for ranks that are all busy: what `lower_bound_s` and `gap` are about.
    planned_s: f64,
    measured_s: f64,
    /// The time by the clocks of an emulated cluster's devices, where there is one.
    emulated_s: Option<f64>,
    /// By what part of the measured time the predicted one exceeds it.
    prediction_error: f64,
    /// The median of its size in the last steps.
    recent_error: f64,
    /// How often measured steps had refined the costs that this one was planned with.
    costs_version: u64,
    tokens_per_s: f64,
    plan_wait_s: f64,
    lower_bound_s: f64,
    gap: Option<f64>,
    stop_reason: &'static str,
    solve_s: f64,
    predicted_peak_memory_bytes: u64,
    measured_peak_memory_bytes: u64,
    groups_created: usize,
    epoch: u64,
    /// Sequences that are pieces of a split document.
    pieces: u64,
    /// Sequences that are the beginning of a truncated document.
    truncated: u64,
    /// Tokens that those documents lost.
    cut_tokens: u64,
    plan: Vec<MicroBatchMetrics>,
    /// What the time of each rank went into: its columns add up to `emulated_s`, or else to `measured_s`.
    ranks: RankMetrics,
}

/// A micro-batch of the plan.
#[derive(Serialize)]
struct MicroBatchMetrics {
    /// The time of its slowest group, and its overhead.
    predicted_s: f64,
    groups: Vec<GroupMetrics>,
}

/// A group, with the lengths of its sequences: those of all groups are the batch.
#[derive(Serialize)]
struct GroupMetrics {
    ranks: Vec<u32>,
    predicted_s: f64,
    seq_lens: Vec<u64>,
}

/// By rank.
#[derive(Serialize)]
struct RankMetrics {
    compute_s: Vec<f64>,
    exchange_s: Vec<f64>,
    wait_s: Vec<f64>,
}

impl RankMetrics {
    fn new(times: &[RankTime]) -> Self {
        let column = |figure: fn(&RankTime) -> Seconds| {
            times
                .iter()
                .map(|time| microseconds(figure(time)))
                .collect()
        };
        RankMetrics {
            compute_s: column(|time| time.compute),
            exchange_s: column(|time| time.exchange),
            wait_s: column(|time| time.wait),
        }
    }
}

/// Seconds to the microsecond: clocks say no more, and files of long runs stay smaller.
fn microseconds(time: Seconds) -> f64 {
    (time.get() * 1e6).round() / 1e6
}

fn plan_metrics(record: &StepRecord) -> Vec<MicroBatchMetrics> {
    let micro_batches = record.plan.micro_batches().iter();
    let with_times = micro_batches.zip(&record.predicted_groups);
    let metrics = with_times.map(|(micro_batch, times)| {
        let slowest = times.iter().copied().fold(Seconds::ZERO, Seconds::max);
        let groups = micro_batch.groups.iter().zip(times);
        let groups = groups.map(|(group, &time)| GroupMetrics {
            ranks: group.ranks.iter().map(|rank| rank.0).collect(),
            predicted_s: microseconds(time),
            seq_lens: (group.sequences.iter())
                .filter_map(|&sequence| record.batch.seq_len(sequence))
                .map(|seq_len| seq_len.0)
                .collect(),
        });
        MicroBatchMetrics {
            predicted_s: microseconds(slowest + record.predicted_overhead),
            groups: groups.collect(),
        }
    });
    metrics.collect()
}

impl<'a> StepMetrics<'a> {
    fn new(record: &'a StepRecord, planner: &'a str) -> Self {
        let origin = &record.origin;
        let degrees = record.plan.degrees();
        StepMetrics {
            version: VERSION,
            planner,
            step: record.step,
            loss: record.loss,
            gradient_norm: record.gradient_norm,
            learning_rate: record.learning_rate,
            tokens: record.num_tokens,
            sequences: record.num_sequences,
            micro_batches: degrees
                .iter()
                .map(|degrees| degrees.iter().copied().map(Degree::get).collect())
                .collect(),
            predicted_s: record.predicted.get(),
            predicted_step_overhead_s: record.predicted_step_overhead.get(),
            planned_s: record.report.predicted_step.get(),
            measured_s: record.measured.get(),
            emulated_s: record.emulated.map(Seconds::get),
            prediction_error: record.prediction_error(),
            recent_error: record.recent_error,
            costs_version: record.costs_version,
            tokens_per_s: record.tokens_per_second(),
            plan_wait_s: record.plan_wait.get(),
            lower_bound_s: record.report.lower_bound.get(),
            gap: record.report.gap(),
            stop_reason: match record.report.stop_reason {
                StopReason::Optimal => "optimal",
                StopReason::Converged => "converged",
                StopReason::TimeBudget => "time_budget",
                _ => "other",
            },
            solve_s: record.report.solve_time.get(),
            predicted_peak_memory_bytes: record.predicted_peak_memory.0,
            measured_peak_memory_bytes: record.measured_peak_memory.0,
            groups_created: record.num_groups,
            epoch: origin.epoch,
            pieces: origin.num_pieces,
            truncated: origin.num_truncated,
            cut_tokens: origin.num_cut_tokens,
            plan: plan_metrics(record),
            ranks: RankMetrics::new(&record.rank_times),
        }
    }
}

/// The file the steps are written to, each as soon as it has ended.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    planner: String,
    file: File,
    failed: Option<io::Error>,
}

impl MetricsFile {
    /// Creates the file, or empties the one that is there.
    pub fn create(setting: &Setting<PathBuf>, planner: PlannerKind) -> Result<Self, Failure> {
        let path = &setting.value;
        let file = File::create(path).map_err(|error| {
            let hint = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
                    format!("create the directory {} first", directory.display())
                }
                _ => "choose a file that may be written".to_owned(),
            };
            setting
                .breaks(format!("can't create {}: {error}", path.display()))
                .hint(hint)
        })?;
        Ok(MetricsFile {
            path: path.clone(),
            planner: planner.to_string(),
            file,
            failed: None,
        })
    }

    /// Writes a step; a warning if that fails, after which nothing more is written.
    pub fn write(&mut self, record: &StepRecord) -> Option<String> {
        if self.failed.is_some() {
            return None;
        }
        let line = serde_json::to_string(&StepMetrics::new(record, &self.planner));
        let written = line
            .map_err(io::Error::from)
            .and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        let error = written.err()?;
        let warning = format!(
            "{}; training goes on without metrics",
            message(&self.path, &error)
        );
        self.failed = Some(error);
        Some(warning)
    }

    /// The failure to write some step, if there was one.
    pub fn end(self) -> Result<(), Failure> {
        match self.failed {
            Some(error) => Err(Failure::run(message(&self.path, &error))),
            None => Ok(()),
        }
    }
}

fn message(path: &Path, error: &io::Error) -> String {
    format!("can't write metrics to {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::step_table::tests::record;
    use super::*;

    #[test]
    fn a_step_is_one_json_object() {
        let json = serde_json::to_string_pretty(&StepMetrics::new(&record(3), "adaptive")).unwrap();
        insta::assert_snapshot!(json);
    }
}
