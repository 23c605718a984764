//! One JSON object a step.

use lengthwise_core::{Bytes, Degree, Seconds};
use lengthwise_train::{RankTime, StepRecord, ValidationRecord};

use crate::metrics::{
    MicroBatchMetrics, RankMetrics, StepMetrics, VERSION, ValidationMetrics, microseconds,
};

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

fn validation_metrics(record: &ValidationRecord) -> ValidationMetrics {
    ValidationMetrics {
        loss: Some(record.loss),
        labels: record.num_labels,
        tokens: record.num_tokens,
        predicted_s: record.predicted.get(),
        measured_s: record.measured.get(),
    }
}

fn plan_metrics(record: &StepRecord) -> Vec<MicroBatchMetrics> {
    let (groups, overhead) = (&record.predicted_groups, record.predicted_overhead);
    MicroBatchMetrics::of_plan(&record.plan, record.batch.seq_lens(), groups, overhead)
}

fn some_bytes(bytes: Bytes) -> Option<u64> {
    (bytes > Bytes(0)).then_some(bytes.0)
}

/// A step as its line holds it, but for the run that it is of.
pub fn step_metrics(record: &StepRecord, planner: &str) -> StepMetrics {
    let (origin, report) = (&record.origin, &record.report);
    let degrees = record.plan.degrees();
    StepMetrics {
        version: Some(VERSION),
        run: None,
        planner: Some(planner.to_owned()),
        step: record.step,
        loss: record.loss,
        gradient_norm: Some(record.gradient_norm),
        learning_rate: Some(record.learning_rate),
        tokens: record.num_tokens,
        labels: Some(record.num_labels),
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
        predicted_peak_host_memory_bytes: some_bytes(record.predicted_peak_host_memory),
        measured_peak_host_memory_bytes: some_bytes(record.measured_peak_host_memory),
        groups_created: Some(record.num_groups as u64),
        epoch: Some(origin.epoch),
        pieces: Some(origin.num_pieces),
        truncated: Some(origin.num_truncated),
        cut_tokens: Some(origin.num_cut_tokens),
        validation: record.validation.as_ref().map(validation_metrics),
        plan: plan_metrics(record),
        ranks: rank_metrics(&record.rank_times),
    }
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
