//! A plan with all predictions, as `lengthwise plan --json` prints it.

use lengthwise_core::MemoryModel;
use lengthwise_cost::format::{FormatVersion, StrategyRecord};
use lengthwise_cost::{predict_group, predict_micro_batch};
use lengthwise_plan::{Attempts, Planned, PlannerKind, StopReason};
use serde::Serialize;

use super::OwnedProblem;
use crate::failure::Failure;

/// A plan with all predictions; its fields are the keys of the JSON output.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: FormatVersion,
    pub(super) planner: String,
    pub(super) predicted_step_s: f64,
    pub(super) lower_bound_s: f64,
    pub(super) gap: Option<f64>,
    pub(super) solve_s: f64,
    pub(super) stop_reason: &'static str,
    #[serde(skip)]
    pub(super) tried: Attempts,
    pub(super) micro_batches: Vec<MicroBatchReport>,
    /// The lengths that the plan's sequences are indices of.
    seq_lens_tokens: Vec<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct MicroBatchReport {
    pub(super) predicted_s: f64,
    pub(super) groups: Vec<GroupReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct GroupReport {
    pub(super) degree: u32,
    pub(super) ranks: Vec<u32>,
    strategy: StrategyRecord,
    pub(super) predicted_s: f64,
    pub(super) memory_bytes: u64,
    pub(super) sequences: Vec<u32>,
    #[serde(skip)]
    pub(super) tokens: u64,
}

impl Report {
    pub(crate) fn new(planner: PlannerKind, planned: &Planned, problem: &OwnedProblem) -> Self {
        let OwnedProblem {
            batch,
            cluster,
            cost,
            ..
        } = problem;
        let micro_batches = planned.plan.micro_batches().iter().map(|micro_batch| {
            let groups = micro_batch.groups.iter().map(|group| GroupReport {
                degree: group.degree().get(),
                ranks: group.ranks.iter().map(|rank| rank.0).collect(),
                strategy: StrategyRecord(group.strategy),
                predicted_s: predict_group(group, batch, cluster, cost).get(),
                memory_bytes: cost.group_memory(group, batch).0,
                sequences: group.sequences.iter().map(|sequence| sequence.0).collect(),
                tokens: group
                    .sequences
                    .iter()
                    .filter_map(|&s| batch.seq_len(s))
                    .map(|len| len.0)
                    .sum(),
            });
            MicroBatchReport {
                predicted_s: predict_micro_batch(micro_batch, batch, cluster, cost).get(),
                groups: groups.collect(),
            }
        });
        let report = &planned.report;
        Report {
            version: FormatVersion,
            planner: planner.to_string(),
            predicted_step_s: report.predicted_step.get(),
            lower_bound_s: report.lower_bound.get(),
            gap: report.gap(),
            solve_s: report.solve_time.get(),
            stop_reason: stop_reason(report.stop_reason),
            tried: report.tried,
            micro_batches: micro_batches.collect(),
            seq_lens_tokens: batch.seq_lens().iter().map(|len| len.0).collect(),
        }
    }

    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self)
            .map_err(|error| Failure::run(format!("the plan can't be written as JSON: {error}")))
    }
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Optimal => "optimal",
        StopReason::TimeBudget => "time_budget",
        _ => "converged",
    }
}
