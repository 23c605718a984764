//! A plan as `lengthwise plan --json` prints it.

use std::path::Path;

use lengthwise_core::{Group, Seconds, Tokens};
use lengthwise_inputs::{GroupPrediction, PlanFile};

use super::source;
use super::timeline::{GroupBar, MAX_BLOCKS, MicroBatchBars, Timeline, runs};
use crate::failure::Failure;

/// Reads a plan as a timeline.
pub(super) fn read(path: &Path) -> Result<Timeline, Failure> {
    let file = PlanFile::read(path)?;
    let Some(predictions) = &file.predictions else {
        let message = format!(
            "{} lacks predicted times; a report shows them",
            path.display()
        );
        return Err(Failure::input(message).hint("write it with lengthwise plan --json"));
    };
    let group = |(group, predicted): (&Group, &GroupPrediction)| {
        let all = file.lengths.seq_lens();
        let seq_lens = group.sequences.iter().map(|&one| all.get(one.index()));
        let seq_lens: Option<Vec<&Tokens>> = seq_lens.collect();
        let lens = || seq_lens.iter().flatten().map(|len| len.0);
        let ranks: Vec<u32> = group.ranks.iter().map(|rank| rank.0).collect();
        GroupBar {
            groups: 1,
            ranks: runs(&ranks),
            degree: ranks.len(),
            predicted_s: predicted.predicted_time.get(),
            sequences: group.sequences.len(),
            tokens: seq_lens
                .is_some()
                .then(|| lens().fold(0, u64::saturating_add)),
            longest: lens().max(),
            memory_bytes: Some(predicted.predicted_memory.0),
        }
    };
    let micro_batches = file.plan.micro_batches().iter();
    let micro_batches =
        micro_batches
            .zip(&predictions.micro_batches)
            .map(|(micro_batch, predicted)| MicroBatchBars {
                predicted_s: predicted.predicted_makespan.get(),
                groups: micro_batch
                    .groups
                    .iter()
                    .zip(&predicted.groups)
                    .map(group)
                    .collect(),
            });
    let planner = file.planner.as_deref().unwrap_or("a plan");
    let timeline = Timeline {
        name: format!("{} ({planner})", source::stem(path)),
        predicted_s: predictions.predicted_step.get(),
        planned_s: predictions.predicted_step.get(),
        lower_bound_s: predictions.lower_bound.map(Seconds::get),
        step_overhead_s: 0.0,
        measured_s: None,
        micro_batches: micro_batches.collect(),
        ranks: None,
    };
    Ok(timeline.condensed(MAX_BLOCKS))
}
