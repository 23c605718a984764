//! What `lengthwise plan` prints.

use std::fmt::Write;

use lengthwise_core::{Bytes, MemoryModel};
use lengthwise_cost::{predict_group, predict_micro_batch};
use lengthwise_plan::{Planned, PlannerKind, StopReason};
use serde::Serialize;

use super::OwnedProblem;
use crate::failure::Failure;

/// Characters of a full bar.
const BAR_WIDTH: usize = 24;

/// A plan with all predictions, in the form of the JSON output.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    planner: String,
    predicted_step_s: f64,
    lower_bound_s: f64,
    gap: Option<f64>,
    solve_s: f64,
    stop_reason: &'static str,
    micro_batches: Vec<MicroBatchReport>,
}

#[derive(Debug, Serialize)]
struct MicroBatchReport {
    predicted_s: f64,
    groups: Vec<GroupReport>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    degree: u32,
    ranks: Vec<u32>,
    strategy: StrategyReport,
    predicted_s: f64,
    memory_bytes: u64,
    sequences: Vec<u32>,
    #[serde(skip)]
    tokens: u64,
}

#[derive(Debug, Serialize)]
struct StrategyReport {
    ulysses: u32,
    ring: u32,
    recompute: bool,
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
                strategy: StrategyReport {
                    ulysses: group.strategy.ulysses_degree().get(),
                    ring: group.strategy.ring_degree().get(),
                    recompute: group.strategy.recompute(),
                },
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
            planner: planner.to_string(),
            predicted_step_s: report.predicted_step.get(),
            lower_bound_s: report.lower_bound.get(),
            gap: report.gap(),
            solve_s: report.solve_time.get(),
            stop_reason: stop_reason(report.stop_reason),
            micro_batches: micro_batches.collect(),
        }
    }

    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self)
            .map_err(|error| Failure::run(format!("the plan can't be written as JSON: {error}")))
    }

    /// The lines of the table: one a group, those of a micro-batch from the slowest on; a full bar is its makespan.
    pub(crate) fn table(&self) -> Vec<String> {
        let gap = self
            .gap
            .map_or("unknown".to_owned(), |gap| format!("{:.2} %", gap * 100.0));
        let mut lines = vec![format!(
            "{}: step {:.3} s, at least {:.3} s by the bound (gap {gap}), {} after {:.1} ms",
            self.planner,
            self.predicted_step_s,
            self.lower_bound_s,
            self.stop_reason.replace('_', " "),
            self.solve_s * 1e3
        )];
        for (index, micro_batch) in self.micro_batches.iter().enumerate() {
            lines.push(String::new());
            lines.push(format!(
                "micro-batch {index}: {:.3} s, {} groups",
                micro_batch.predicted_s,
                micro_batch.groups.len()
            ));
            lines.push(format!(
                "  {:>6} {:>11} {:>9} {:>9} {:>9}  time",
                "degree", "ranks", "sequences", "tokens", "memory"
            ));
            let mut groups: Vec<&GroupReport> = micro_batch.groups.iter().collect();
            groups.sort_by(|a, b| {
                b.degree
                    .cmp(&a.degree)
                    .then(b.predicted_s.total_cmp(&a.predicted_s))
            });
            let makespan = groups
                .iter()
                .map(|group| group.predicted_s)
                .fold(0.0, f64::max);
            lines.extend(groups.into_iter().map(|group| group.line(makespan)));
        }
        lines
    }
}

impl GroupReport {
    fn line(&self, makespan: f64) -> String {
        let share = if makespan > 0.0 {
            self.predicted_s / makespan
        } else {
            0.0
        };
        let filled = (share * BAR_WIDTH as f64).round() as usize;
        let mut line = format!(
            "  {:>6} {:>11} {:>9} {:>9} {:>9}  ",
            self.degree,
            ranks(&self.ranks),
            self.sequences.len(),
            self.tokens,
            Bytes(self.memory_bytes).to_string()
        );
        let _ = write!(
            line,
            "{}{} {:.3} s",
            "█".repeat(filled),
            "·".repeat(BAR_WIDTH - filled.min(BAR_WIDTH)),
            self.predicted_s
        );
        line
    }
}

/// `0-7`, or `0-3,8-11` where they are not contiguous.
fn ranks(ranks: &[u32]) -> String {
    let runs = ranks.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Optimal => "optimal",
        StopReason::TimeBudget => "time_budget",
        _ => "converged",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn contiguous_ranks_are_shown_as_runs() {
        assert_eq!(super::ranks(&[0, 1, 2, 5, 8, 9]), "0-2,5,8-9");
    }
}
