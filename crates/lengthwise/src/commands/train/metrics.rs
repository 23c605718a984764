//! One JSON object a step.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lengthwise_core::{Degree, Seconds};
use lengthwise_plan::PlannerKind;
use lengthwise_train::{RankTime, StepRecord};

use crate::failure::Failure;
use crate::metrics::{MicroBatchMetrics, RankMetrics, StepMetrics, VERSION, microseconds};
use crate::settings::Setting;

fn rank_metrics(times: &[RankTime]) -> RankMetrics {
    let column = |figure: fn(&RankTime) -> Seconds| {
        let times = times.iter();
        times.map(|time| microseconds(figure(time))).collect()
    };
    RankMetrics {
        compute_s: column(|time| time.compute),
        exchange_s: column(|time| time.exchange),
        wait_s: column(|time| time.wait),
    }
}

fn plan_metrics(record: &StepRecord) -> Vec<MicroBatchMetrics> {
    let (groups, overhead) = (&record.predicted_groups, record.predicted_overhead);
    MicroBatchMetrics::of_plan(&record.plan, record.batch.seq_lens(), groups, overhead)
}

fn step_metrics(record: &StepRecord, planner: &str) -> StepMetrics {
    let (origin, report) = (&record.origin, &record.report);
    let degrees = record.plan.degrees();
    StepMetrics {
        version: Some(VERSION),
        planner: Some(planner.to_owned()),
        step: record.step,
        loss: Some(record.loss),
        gradient_norm: Some(record.gradient_norm),
        learning_rate: Some(record.learning_rate),
        tokens: record.num_tokens,
        sequences: record.num_sequences as u64,
        micro_batches: degrees
            .iter()
            .map(|degrees| degrees.iter().copied().map(Degree::get).collect())
            .collect(),
        predicted_s: record.predicted.get(),
        predicted_step_overhead_s: record.predicted_step_overhead.get(),
        planned_s: Some(report.predicted_step.get()),
        measured_s: record.measured.get(),
        emulated_s: record.emulated.map(Seconds::get),
        prediction_error: Some(record.prediction_error()),
        recent_error: Some(record.recent_error),
        costs_version: Some(record.costs_version),
        tokens_per_s: Some(record.tokens_per_second()),
        plan_wait_s: record.plan_wait.get(),
        lower_bound_s: Some(report.lower_bound.get()),
        gap: report.gap(),
        stop_reason: Some(report.stop_reason.name().to_owned()),
        solve_s: Some(report.solve_time.get()),
        predicted_peak_memory_bytes: Some(record.predicted_peak_memory.0),
        measured_peak_memory_bytes: Some(record.measured_peak_memory.0),
        groups_created: Some(record.num_groups as u64),
        epoch: Some(origin.epoch),
        pieces: Some(origin.num_pieces),
        truncated: Some(origin.num_truncated),
        cut_tokens: Some(origin.num_cut_tokens),
        plan: plan_metrics(record),
        ranks: rank_metrics(&record.rank_times),
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
        let line = serde_json::to_string(&step_metrics(record, &self.planner));
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
    fn a_step_is_one_json_object_that_is_read_back_as_it_was() {
        let written = step_metrics(&record(3), "adaptive");
        let line = serde_json::to_string(&written).unwrap();
        let read: StepMetrics = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
        let json = serde_json::to_string_pretty(&written).unwrap();
        insta::assert_snapshot!(json);
    }
}
