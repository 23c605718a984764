//! A plan as a table to read: a row for groups that look alike, however many there are.

use std::fmt::Write;

use super::OwnedProblem;
use super::report::{GroupReport, MicroBatchReport, Report};

/// Characters of a full bar.
const BAR_WIDTH: usize = 16;

/// Characters of the column `ranks`.
const RANKS_WIDTH: usize = 10;

/// All lines, none wider than 80 characters.
pub(super) fn lines(report: &Report, problem: &OwnedProblem) -> Vec<String> {
    let gap = report
        .gap
        .map_or("unknown".to_owned(), |gap| format!("{:.2} %", gap * 100.0));
    let mut lines = vec![
        format!(
            "{}: a step takes {}, and no plan less than {} (gap {gap})",
            report.planner,
            seconds(report.predicted_step_s),
            seconds(report.lower_bound_s)
        ),
        format!(
            "{} after {}; {}, {}, {}",
            report.stop_reason.replace('_', " "),
            seconds(report.solve_s),
            counted(problem.batch.num_sequences(), "sequence"),
            counted(problem.batch.num_tokens().0 as usize, "token"),
            counted(problem.cluster.num_devices() as usize, "device"),
        ),
    ];
    if report.tried.num_drafts > 0 {
        lines.push(format!(
            "tried {} and {}",
            counted(report.tried.num_drafts, "draft"),
            counted(report.tried.num_bounds, "bound"),
        ));
    }
    for (index, micro_batch) in report.micro_batches.iter().enumerate() {
        lines.push(String::new());
        lines.push(title(
            index,
            report.micro_batches.len(),
            micro_batch,
            problem,
        ));
        lines.push(format!(
            "{:>9} {:<RANKS_WIDTH$} {:>9} {:>13} {:>9}  takes",
            "groups", "ranks", "sequences", "tokens", "memory"
        ));
        lines.extend(rows(micro_batch).iter().map(Row::line));
    }
    lines
}

fn title(
    index: usize,
    num: usize,
    micro_batch: &MicroBatchReport,
    problem: &OwnedProblem,
) -> String {
    let busy: usize = micro_batch
        .groups
        .iter()
        .map(|group| group.ranks.len())
        .sum();
    let idle = problem.cluster.num_devices() as usize - busy;
    let idle = match idle {
        0 => String::new(),
        _ => format!(", {} idle", counted(idle, "device")),
    };
    format!(
        "micro-batch {} of {num}: {}, {}{idle}",
        index + 1,
        seconds(micro_batch.predicted_s),
        counted(micro_batch.groups.len(), "group"),
    )
}

/// Groups of one degree whose bars are of one length.
struct Row<'a> {
    groups: Vec<&'a GroupReport>,
    /// Characters of the bar.
    filled: usize,
}

/// The rows of a micro-batch by falling degree and time; a full bar is its makespan.
fn rows(micro_batch: &MicroBatchReport) -> Vec<Row<'_>> {
    let mut groups: Vec<&GroupReport> = micro_batch.groups.iter().collect();
    groups.sort_by(|a, b| {
        let by_degree = b.degree.cmp(&a.degree);
        by_degree.then(b.predicted_s.total_cmp(&a.predicted_s))
    });
    let makespan = groups
        .iter()
        .map(|group| group.predicted_s)
        .fold(0.0, f64::max);
    let filled = |group: &GroupReport| {
        if makespan > 0.0 {
            (group.predicted_s / makespan * BAR_WIDTH as f64).round() as usize
        } else {
            0
        }
    };
    let alike = |a: &&GroupReport, b: &&GroupReport| a.degree == b.degree && filled(a) == filled(b);
    groups
        .chunk_by(alike)
        .map(|groups| Row {
            groups: groups.to_vec(),
            filled: filled(groups[0]),
        })
        .collect()
}

impl Row<'_> {
    /// Sequences are all of the groups together, memory and time those of the fullest.
    fn line(&self) -> String {
        let tokens = self.groups.iter().map(|group| group.tokens);
        let (fewest, most) = (tokens.clone().min().unwrap_or(0), tokens.max().unwrap_or(0));
        let tokens = if fewest == most {
            most.to_string()
        } else {
            format!("{fewest}-{most}")
        };
        let sequences: usize = self.groups.iter().map(|group| group.sequences.len()).sum();
        let memory = self.groups.iter().map(|group| group.memory_bytes).max();
        let mut ranks: Vec<u32> = self
            .groups
            .iter()
            .flat_map(|group| group.ranks.iter().copied())
            .collect();
        ranks.sort_unstable();
        let mut line = format!(
            "{:>9} {:<RANKS_WIDTH$} {sequences:>9} {tokens:>13} {:>9}  ",
            format!("{} x {}", self.groups.len(), self.groups[0].degree),
            runs(&ranks),
            bytes(memory.unwrap_or(0)),
        );
        let _ = write!(
            line,
            "{}{} {}",
            "█".repeat(self.filled),
            "·".repeat(BAR_WIDTH.saturating_sub(self.filled)),
            seconds(self.groups[0].predicted_s)
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

/// `1 group`, `2 groups`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Three digits and a unit, for a narrow column.
pub(crate) fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 || s == 0.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    three_digits(value, unit)
}

/// The same for memory.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|&&(_, shift)| bytes >> shift > 0) {
        Some(&(unit, shift)) => three_digits(bytes as f64 / (1u64 << shift) as f64, unit),
        None => format!("{bytes} B"),
    }
}

fn three_digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
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

    #[test]
    fn times_have_three_digits() {
        for (time, text) in [
            (0.0, "0.00 s"),
            (2.9228, "2.92 s"),
            (99.96, "100 s"),
            (0.01434, "14.3 ms"),
            (0.00000012, "0.12 us"),
        ] {
            assert_eq!(seconds(time), text);
        }
    }

    #[test]
    fn memory_has_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (1003 << 20, "1003 MiB"),
            (28 << 30, "28.0 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
