//! A plan as `lengthwise plan --json` prints it.

use std::path::Path;

use serde::Deserialize;

use super::source;
use super::timeline::{GroupBar, MicroBatchBars, Timeline, runs};
use crate::failure::Failure;

/// What is read of a plan.
#[derive(Debug, Deserialize)]
struct PlanFile {
    planner: String,
    predicted_step_s: f64,
    lower_bound_s: Option<f64>,
    micro_batches: Vec<MicroBatch>,
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
    sequences: Vec<u64>,
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
    let group = |group: &Group| GroupBar {
        ranks: runs(&group.ranks),
        degree: group.ranks.len(),
        predicted_s: group.predicted_s,
        sequences: group.sequences.len(),
        tokens: None,
        longest: None,
        memory_bytes: Some(group.memory_bytes),
    };
    let micro_batches = plan.micro_batches.iter().map(|micro_batch| MicroBatchBars {
        predicted_s: micro_batch.predicted_s,
        groups: micro_batch.groups.iter().map(group).collect(),
    });
    Ok(Timeline {
        name: format!("{} ({})", source::stem(path), plan.planner),
        predicted_s: plan.predicted_step_s,
        lower_bound_s: plan.lower_bound_s,
        measured_s: None,
        micro_batches: micro_batches.collect(),
        ranks: None,
    })
}
