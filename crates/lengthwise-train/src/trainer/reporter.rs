//! The reports of steps to observers, and their sums.

use crate::{StepRecord, TrainObserver, TrainSummary};

pub struct Reporter<'a> {
    pub observer: &'a mut dyn TrainObserver,
    pub summary: TrainSummary,
}

impl Reporter<'_> {
    pub fn step(&mut self, record: &StepRecord) {
        let summary = &mut self.summary;
        summary.steps += 1;
        summary.num_tokens += record.num_tokens;
        summary.num_sequences += record.num_sequences as u64;
        summary.measured += record.measured;
        let validation = record.validation.as_ref();
        summary.validation += validation.map(|one| one.measured).unwrap_or_default();
        summary.plan_wait += record.plan_wait;
        summary.measured_peak_memory = summary
            .measured_peak_memory
            .max(record.measured_peak_memory);
        summary.measured_peak_host_memory = summary
            .measured_peak_host_memory
            .max(record.measured_peak_host_memory);
        summary.num_groups = record.num_groups;
        self.observer.step(record);
    }
}
