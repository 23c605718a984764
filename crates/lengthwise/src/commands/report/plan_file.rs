//! A plan as `lengthwise plan --json` prints it.

use std::path::Path;

use serde::Deserialize;

use super::source;
use super::timeline::{GroupBar, MAX_BLOCKS, MicroBatchBars, Timeline, runs};
use crate::failure::Failure;

/// What is read of a plan.
#[derive(Debug, Deserialize)]
struct PlanFile {
    planner: String,
    predicted_step_s: f64,
    lower_bound_s: Option<f64>,
    micro_batches: Vec<MicroBatch>,
    /// The lengths that sequences are indices of; older files lack them.
    seq_lens_tokens: Option<Vec<u64>>,
}

#[derive(Debug, Deserialize)]
struct MicroBatch {
    predicted_s: f64,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    ranks: Vec<u32>,
    predicted_s: f64,
    memory_bytes: u64,
    sequences: Vec<usize>,
}

/// Reads a plan as a timeline.
pub(super) fn read(path: &Path) -> Result<Timeline, Failure> {
    let text = source::read(path, "plan")?;
    let plan: PlanFile = serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is no plan: {error}", path.display());
        Failure::input(message).hint("plans are what lengthwise plan prints with --json")
    })?;
    let is_time = |time: f64| time >= 0.0;
    let mut times = plan.micro_batches.iter().flat_map(|micro_batch| {
        let groups = micro_batch.groups.iter().map(|group| group.predicted_s);
        groups.chain([micro_batch.predicted_s])
    });
    if !times.all(is_time) {
        let message = format!(
            "{}: a predicted_s is negative; times must not be",
            path.display()
        );
        return Err(Failure::input(message));
    }
    let seq_lens = |group: &Group| -> Option<Vec<u64>> {
        let all = plan.seq_lens_tokens.as_ref()?;
        let sequences = group.sequences.iter();
        sequences.map(|&index| all.get(index).copied()).collect()
    };
    let group = |group: &Group| {
        let seq_lens = seq_lens(group);
        let lens = || seq_lens.iter().flatten().copied();
        GroupBar {
            groups: 1,
            ranks: runs(&group.ranks),
            degree: group.ranks.len(),
            predicted_s: group.predicted_s,
            sequences: group.sequences.len(),
            tokens: seq_lens
                .is_some()
                .then(|| lens().fold(0, u64::saturating_add)),
            longest: lens().max(),
            memory_bytes: Some(group.memory_bytes),
        }
    };
    let micro_batches = plan.micro_batches.iter().map(|micro_batch| MicroBatchBars {
        predicted_s: micro_batch.predicted_s,
        groups: micro_batch.groups.iter().map(group).collect(),
    });
    let timeline = Timeline {
        name: format!("{} ({})", source::stem(path), plan.planner),
        predicted_s: plan.predicted_step_s,
        planned_s: plan.predicted_step_s,
        lower_bound_s: plan.lower_bound_s,
        step_overhead_s: 0.0,
        measured_s: None,
        micro_batches: micro_batches.collect(),
        ranks: None,
    };
    Ok(timeline.condensed(MAX_BLOCKS))
}
