//! A plan as a table to read: a row for groups that look alike, however many there are.

use std::fmt::Write;

use lengthwise_core::{Bytes, Degree, Group, MemoryModel, MicroBatch, Seconds, Strategy, Tokens};
use lengthwise_cost::{predict_group, predict_micro_batch};
use lengthwise_inputs::OwnedProblem;
use lengthwise_plan::{Planned, PlannerKind, StopReason};

use crate::quantity::{bytes, counted, seconds};

/// Characters of a full bar.
const BAR_WIDTH: usize = 16;

/// Characters of the column `ranks`.
const RANKS_WIDTH: usize = 10;

/// All lines, none wider than 80 characters.
pub(super) fn lines(
    planner: PlannerKind,
    planned: &Planned,
    problem: &OwnedProblem,
) -> Vec<String> {
    let (plan, report) = (&planned.plan, &planned.report);
    let gap = report
        .gap()
        .map_or("unknown".to_owned(), |gap| format!("{:.2} %", gap * 100.0));
    let mut lines = vec![
        format!(
            "{planner}: a step takes {}, and no plan less than {} (gap {gap})",
            seconds(report.predicted_step.get()),
            seconds(report.lower_bound.get())
        ),
        format!(
            "{} after {}; {}, {}, {}",
            stop_reason(report.stop_reason),
            seconds(report.solve_time.get()),
            counted(problem.batch.num_sequences(), "sequence"),
            counted(problem.batch.num_tokens().0 as usize, "token"),
            devices(problem),
        ),
    ];
    if let Some(degrees) = &report.bounded_degrees {
        let degrees: Vec<String> = degrees.iter().map(Degree::to_string).collect();
        lines.push(format!(
            "both hold among plans of degrees {} alone",
            degrees.join(", ")
        ));
    }
    if !problem.rules.is_empty() {
        lines.push("all plans keep these rules:".to_owned());
        lines.extend(
            problem
                .rules
                .to_string()
                .split(", ")
                .map(|rule| format!("  {rule}")),
        );
    }
    if report.tried.num_drafts > 0 {
        lines.push(format!(
            "tried {} and {}",
            counted(report.tried.num_drafts, "draft"),
            counted(report.tried.num_bounds, "bound"),
        ));
    }
    if report.tried.num_stopped_milps > 0 {
        lines.push(format!(
            "{} stopped at the limit, with the best solution so far",
            counted(report.tried.num_stopped_milps, "MILP"),
        ));
    }
    let num = plan.micro_batches().len();
    for (index, micro_batch) in plan.micro_batches().iter().enumerate() {
        lines.push(String::new());
        lines.push(title(index, num, micro_batch, problem));
        lines.push(format!(
            "{:>9} {:<RANKS_WIDTH$} {:>9} {:>13} {:>9}  takes",
            "groups", "ranks", "sequences", "tokens", "memory"
        ));
        lines.extend(rows(micro_batch, problem).iter().map(Row::line));
    }
    lines
}

/// The devices, or the ranks and what each stands for.
fn devices(problem: &OwnedProblem) -> String {
    let num = problem.costs.cluster.num_devices() as usize;
    match problem.costs.share.devices_per_rank() {
        1 => counted(num, "device"),
        of_each => format!("{} of {of_each} devices", counted(num, "rank")),
    }
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Optimal => "optimal",
        StopReason::TimeBudget => "time budget",
        StopReason::OverBudget => "over the time budget",
        _ => "converged",
    }
}

fn title(index: usize, num: usize, micro_batch: &MicroBatch, problem: &OwnedProblem) -> String {
    let costs = &problem.costs;
    let predicted = predict_micro_batch(micro_batch, &problem.batch, &costs.cluster, &costs.model);
    let groups = &micro_batch.groups;
    let busy: usize = groups.iter().map(|group| group.ranks.len()).sum();
    let idle = costs.cluster.num_devices() as usize - busy;
    let noun = if costs.share.is_whole() {
        "device"
    } else {
        "rank"
    };
    let idle = match idle {
        0 => String::new(),
        _ => format!(", {} idle", counted(idle, noun)),
    };
    format!(
        "micro-batch {} of {num}: {}, {}{idle}",
        index + 1,
        seconds(predicted.get()),
        counted(groups.len(), "group"),
    )
}

/// A group and what it comes to.
#[derive(Clone, Copy)]
struct Predicted<'a> {
    group: &'a Group,
    time: Seconds,
    memory: Bytes,
    tokens: Tokens,
}

impl<'a> Predicted<'a> {
    fn new(group: &'a Group, problem: &OwnedProblem) -> Self {
        let OwnedProblem { batch, costs, .. } = problem;
        let seq_lens = group.sequences.iter();
        let seq_lens = seq_lens.filter_map(|&sequence| batch.seq_len(sequence));
        Predicted {
            group,
            time: predict_group(group, batch, &costs.cluster, &costs.model),
            memory: costs.model.group_memory(group, batch),
            tokens: Tokens(seq_lens.map(|len| len.0).sum()),
        }
    }

    fn strategy(&self) -> Strategy {
        self.group.strategy
    }
}

/// Groups of one strategy whose bars are of one length.
struct Row<'a> {
    groups: Vec<Predicted<'a>>,
    /// What it calls them.
    name: String,
    /// Characters of the bar.
    filled: usize,
}

/// The rows of a micro-batch by falling degree and time; a full bar is its makespan.
fn rows<'a>(micro_batch: &'a MicroBatch, problem: &OwnedProblem) -> Vec<Row<'a>> {
    let groups = micro_batch.groups.iter();
    let mut groups: Vec<Predicted> = groups.map(|group| Predicted::new(group, problem)).collect();
    groups.sort_by(|a, b| {
        b.strategy()
            .cmp(&a.strategy())
            .then(b.time.get().total_cmp(&a.time.get()))
    });
    // Where there is a choice, the first: what keeps most.
    let usual = problem.costs.space.strategies()[0].activations();
    let makespan = groups.iter().map(|group| group.time);
    let makespan = makespan.fold(Seconds::ZERO, Seconds::max);
    let filled = |group: &Predicted| {
        if makespan > Seconds::ZERO {
            (group.time / makespan * BAR_WIDTH as f64).round() as usize
        } else {
            0
        }
    };
    let alike =
        |a: &Predicted, b: &Predicted| a.strategy() == b.strategy() && filled(a) == filled(b);
    groups
        .chunk_by(alike)
        .map(|groups| Row {
            groups: groups.to_vec(),
            name: groups[0].strategy().short(usual),
            filled: filled(&groups[0]),
        })
        .collect()
}

impl Row<'_> {
    /// Sequences are all of the groups together, memory and time those of the fullest.
    fn line(&self) -> String {
        let groups = || self.groups.iter();
        let tokens = groups().map(|group| group.tokens.0);
        let (fewest, most) = (tokens.clone().min().unwrap_or(0), tokens.max().unwrap_or(0));
        let tokens = if fewest == most {
            most.to_string()
        } else {
            format!("{fewest}-{most}")
        };
        let sequences: usize = groups().map(|one| one.group.sequences.len()).sum();
        let memory = groups().map(|group| group.memory.0).max();
        let ranks = groups().flat_map(|one| &one.group.ranks);
        let mut ranks: Vec<u32> = ranks.map(|rank| rank.0).collect();
        ranks.sort_unstable();
        let mut line = format!(
            "{:>9} {:<RANKS_WIDTH$} {sequences:>9} {tokens:>13} {:>9}  ",
            format!("{} x {}", self.groups.len(), self.name),
            runs(&ranks),
            bytes(memory.unwrap_or(0)),
        );
        let _ = write!(
            line,
            "{}{} {}",
            "█".repeat(self.filled),
            "·".repeat(BAR_WIDTH.saturating_sub(self.filled)),
            seconds(self.groups[0].time.get())
        );
        line
    }
}

/// `0-7`, or `0-3,8-11` where they are not contiguous, as far as there is room.
fn runs(ranks: &[u32]) -> String {
    let mut text = String::new();
    for run in ranks.chunk_by(|a, b| a + 1 == *b) {
        let run = match run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => continue,
        };
        let comma = if text.is_empty() { "" } else { "," };
        // The last place is for the sign that there are more.
        if !text.is_empty() && text.len() + 1 + run.len() > RANKS_WIDTH - 1 {
            text.push('…');
            break;
        }
        text.push_str(comma);
        text.push_str(&run);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_shown_as_runs_as_far_as_there_is_room() {
        assert_eq!(runs(&[0, 1, 2, 5, 8, 9]), "0-2,5,8-9");
        assert_eq!(runs(&[0, 1, 2, 5, 18, 19, 21]), "0-2,5…");
        assert_eq!(runs(&[100_000, 100_001]), "100000-100001");
        assert_eq!(runs(&[]), "");
    }
}
