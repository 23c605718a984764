//! A simulated step as a table to read: a row for ranks in a row that look alike, however many there are.

use super::report::difference;
use super::report::{LinkReport, MicroBatchReport, PlaceReport, RankReport, Report, UsageReport};
use crate::quantity::{bytes, counted, seconds};

/// Characters of a bar.
const BAR_WIDTH: usize = 32;

/// No more rows of ranks, or of micro-batches, are shown.
const MAX_ROWS: usize = 24;

/// What a bar's parts look like, in the order of [`UsageReport::shares`].
const PARTS: [(&str, &str); 4] = [
    ("█", "compute"),
    ("▒", "communication"),
    ("o", "overhead"),
    ("·", "idle"),
];

/// All lines, none wider than 80 characters.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}: a step takes {}, {} predicted ({})",
            report.planner,
            seconds(report.simulated_step_s),
            seconds(report.predicted_step_s),
            signed_percent(report.difference()),
        ),
        cut(&report.costs),
        format!(
            "{}, {}, {} on {}; {}",
            counted(report.num_sequences, "sequence"),
            counted(report.num_tokens as usize, "token"),
            counted(report.ranks.len(), "device"),
            counted(report.num_nodes, "node"),
            counted(report.num_events as usize, "event"),
        ),
        String::new(),
    ];
    lines.extend(micro_batches(&report.micro_batches));
    lines.push(String::new());
    lines.extend(ranks(report));
    if !report.links.is_empty() {
        lines.push(String::new());
        lines.extend(links(&report.links));
    }
    lines
}

fn micro_batches(micro_batches: &[MicroBatchReport]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>11} {:>6} {:>9} {:>9} {:>8} {:>8} {:>6} {:>8} {:>6}",
        "micro-batch",
        "groups",
        "simulated",
        "predicted",
        "differ",
        "compute",
        "comm.",
        "overhead",
        "idle"
    )];
    let num = micro_batches.len();
    lines.extend(micro_batches.iter().take(MAX_ROWS).zip(1..).map(|(one, number)| {
        let [compute, communication, overhead, idle] = one.usage.shares().map(percent);
        format!(
            "{:>11} {:>6} {:>9} {:>9} {:>8} {compute:>8} {communication:>6} {overhead:>8} {idle:>6}",
            format!("{number} of {num}"),
            one.num_groups,
            seconds(one.simulated_s),
            seconds(one.predicted_s),
            signed_percent(difference(one.simulated_s, one.predicted_s)),
        )
    }));
    if num > MAX_ROWS {
        lines.push(format!("and {} more; --json has all", num - MAX_ROWS));
    }
    lines
}

/// Ranks in a row whose bars look alike.
struct Row {
    first: u32,
    last: u32,
    usage: UsageReport,
    cells: [usize; 4],
    peak_memory: u64,
}

impl Row {
    fn new(rank: &RankReport) -> Self {
        Row {
            first: rank.rank,
            last: rank.rank,
            usage: rank.usage,
            cells: cells(&rank.usage),
            peak_memory: rank.peak_memory_bytes,
        }
    }

    fn join(&mut self, other: &Row) {
        self.last = other.last;
        self.usage.add(&other.usage);
        self.peak_memory = self.peak_memory.max(other.peak_memory);
    }

    fn line(&self) -> String {
        let ranks = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        let [compute, communication, _, idle] = self.usage.shares().map(percent);
        format!(
            "{ranks:>11} {} {compute:>7} {communication:>6} {idle:>6} {:>9}",
            bar(&self.cells),
            bytes(self.peak_memory)
        )
    }
}

fn ranks(report: &Report) -> Vec<String> {
    let legend = PARTS
        .map(|(sign, name)| format!("{sign} {name}"))
        .join("  ");
    let mut lines = vec![
        format!("{:>11} {legend}", ""),
        format!(
            "{:>11} {:<BAR_WIDTH$} {:>7} {:>6} {:>6} {:>9}",
            "ranks", "", "compute", "comm.", "idle", "memory"
        ),
    ];
    let rows = alike(report.ranks.iter().map(Row::new));
    // Where every rank is different, nodes are shown instead.
    let rows = if rows.len() > MAX_ROWS {
        let nodes = report.ranks.chunk_by(|a, b| a.node == b.node);
        alike(nodes.filter_map(of_node))
    } else {
        rows
    };
    lines.extend(rows.iter().take(MAX_ROWS).map(Row::line));
    if let Some(rest) = rows.get(MAX_ROWS) {
        lines.push(format!("and ranks from {}; --json has all", rest.first));
    }
    if let Some(fullest) = report.ranks.iter().max_by(|a, b| {
        fullness(a)
            .total_cmp(&fullness(b))
            .then(b.rank.cmp(&a.rank))
    }) {
        lines.push(format!(
            "rank {} is the fullest with {} of {}",
            fullest.rank,
            bytes(fullest.peak_memory_bytes),
            bytes(fullest.memory_bytes)
        ));
    }
    let on_host = report.ranks.iter().filter_map(|rank| {
        let share = rank.host_memory_bytes;
        Some((rank.peak_host_memory_bytes?, share))
    });
    let fullest = on_host.max_by(|a, b| {
        let part =
            |&(peak, share): &(u64, Option<u64>)| share.map_or(0.0, |share| part(peak, share));
        part(a).total_cmp(&part(b)).then(a.0.cmp(&b.0))
    });
    if let Some((most, share)) = fullest {
        let share = share.map_or_else(String::new, |share| format!(" of {}", bytes(share)));
        lines.push(format!(
            "hosts hold {}{share} for a rank at most",
            bytes(most)
        ));
    }
    lines
}

fn fullness(rank: &RankReport) -> f64 {
    part(rank.peak_memory_bytes, rank.memory_bytes)
}

fn part(bytes: u64, of: u64) -> f64 {
    bytes as f64 / of.max(1) as f64
}

fn of_node(ranks: &[RankReport]) -> Option<Row> {
    let mut rows = ranks.iter().map(Row::new);
    let mut node = rows.next()?;
    rows.for_each(|row| node.join(&row));
    node.cells = cells(&node.usage);
    Some(node)
}

fn alike(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut joined: Vec<Row> = Vec::new();
    for row in rows {
        match joined.last_mut() {
            Some(last) if last.cells == row.cells => last.join(&row),
            _ => joined.push(row),
        }
    }
    joined
}

/// How many characters each part of a bar has: those of its end, rounded, less those before.
fn cells(usage: &UsageReport) -> [usize; 4] {
    let (mut share, mut filled) = (0.0, 0);
    usage.shares().map(|part| {
        share += part;
        let end = (share * BAR_WIDTH as f64).round() as usize;
        let cells = end.saturating_sub(filled);
        filled = end;
        cells
    })
}

fn bar(cells: &[usize; 4]) -> String {
    let parts = PARTS.iter().zip(cells);
    let bar: String = parts
        .map(|((sign, _), &count)| sign.repeat(count))
        .collect();
    format!("{bar:<BAR_WIDTH$}")
}

fn links(links: &[LinkReport]) -> Vec<String> {
    let is_nic = |link: &&LinkReport| matches!(link.place, PlaceReport::Nic { .. });
    let (nics, devices): (Vec<_>, Vec<_>) = links.iter().partition(is_nic);
    let mut lines = vec![format!(
        "{:<16} {:>12} {:>12} {:>12}  busiest",
        "links", "bandwidth", "mean use", "most use"
    )];
    let of_devices = match devices.len() {
        1 => "device's link",
        _ => "devices' links",
    };
    let of_nodes = if nics.len() == 1 { "NIC" } else { "NICs" };
    for (name, links) in [(of_devices, devices), (of_nodes, nics)] {
        let Some(busiest) = links
            .iter()
            .reduce(|a, b| if b.utilisation > a.utilisation { b } else { a })
        else {
            continue;
        };
        let sum: f64 = links.iter().map(|link| link.utilisation).sum();
        let place = match busiest.place {
            PlaceReport::DeviceLink { rank } => format!("rank {rank}'s"),
            PlaceReport::Nic { node, nic } => format!("NIC {nic} of node {node}"),
        };
        lines.push(format!(
            "{:<16} {:>12} {:>12} {:>12}  {place}",
            format!("{} {name}", links.len()),
            format!("{:.1} GB/s", busiest.bandwidth_bytes_per_s / 1e9),
            percent(sum / links.len() as f64),
            percent(busiest.utilisation),
        ));
    }
    lines
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// With its sign.
fn signed_percent(share: f64) -> String {
    // No sign for what only rounding leaves.
    let share = if share.abs() < 5e-4 { 0.0 } else { share };
    format!("{:+.1}%", share * 100.0)
}

/// Names may be long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(79) {
        Some((end, _)) if text.chars().count() > 80 => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(parts: [f64; 4]) -> UsageReport {
        let [compute_s, exposed_communication_s, overhead_s, idle_s] = parts;
        UsageReport {
            compute_s,
            exposed_communication_s,
            overhead_s,
            idle_s,
        }
    }

    #[test]
    fn bars_are_full_however_their_parts_are_rounded() {
        for parts in [
            [1.0, 1.0, 1.0, 1.0],
            [1.0, 0.0, 0.0, 2.0],
            [0.3, 0.3, 0.3, 0.1],
            [1e-9, 1.0, 1e-9, 1e-9],
        ] {
            let bar = bar(&cells(&usage(parts)));
            assert_eq!(bar.trim_end().chars().count(), BAR_WIDTH, "{bar:?}");
        }
        assert_eq!(bar(&cells(&usage([0.0; 4]))).trim_end(), "");
    }

    #[test]
    fn long_names_are_cut_to_a_line() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"x".repeat(80)).len(), 80);
        assert_eq!(cut(&"x".repeat(200)).chars().count(), 80);
    }
}
