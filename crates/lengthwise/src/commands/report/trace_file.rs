//! A trace of one step, as bars of what every rank did.

use std::collections::BTreeMap;
use std::path::Path;

use lengthwise_core::ActivityClass;
use lengthwise_sim::check_chrome_trace;
use serde::{Deserialize, Serialize};

use super::source;
use crate::failure::Failure;

/// Bars that a page can draw; beyond, what is shorter than a part of the step is merged into its neighbours.
const MAX_BARS: usize = 8000;

/// Ranks that are drawn.
const MAX_RANKS: usize = 256;

/// Kinds of time, in the order in which bars number them.
const CLASSES: [ActivityClass; 4] = [
    ActivityClass::Compute,
    ActivityClass::ExposedCommunication,
    ActivityClass::Idle,
    ActivityClass::Overhead,
];

/// Start and duration in seconds, and the kind.
pub(super) type Bar = (f64, f64, usize);

/// What every rank did; fields are the keys that the page's scripts read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) end_s: f64,
    pub(super) lanes: Vec<Lane>,
    /// Ranks that are not drawn.
    pub(super) num_left_out: usize,
    /// Whether bars are of what took most of a stretch of time, rather than of single events.
    pub(super) is_merged: bool,
}

/// A rank.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Lane {
    pub(super) name: String,
    /// Seconds by kind.
    pub(super) totals: [f64; 4],
    pub(super) bars: Vec<Bar>,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    name: String,
    ph: String,
    pid: u64,
    #[serde(default)]
    tid: u64,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    cat: String,
    #[serde(default)]
    args: serde_json::Value,
}

/// Reads a trace that `simulate` or `train --trace` has written.
pub(super) fn read(path: &Path) -> Result<Trace, Failure> {
    let text = source::read(path, "trace")?;
    let failure = |rule: String| {
        let message = format!("trace {}: {rule}", path.display());
        Failure::input(message).hint("traces are what lengthwise writes with --trace")
    };
    check_chrome_trace(text.as_bytes()).map_err(|problem| failure(problem.to_string()))?;
    let file: File = serde_json::from_str(&text).map_err(|error| failure(error.to_string()))?;
    trace(source::stem(path), &file.events)
        .ok_or_else(|| failure("it has no events of ranks; a report needs at least one".to_owned()))
}

fn trace(name: String, events: &[Event]) -> Option<Trace> {
    // The name and the bars of each thread of each process.
    let mut lanes: BTreeMap<(u64, u64), (String, Vec<Bar>)> = BTreeMap::new();
    for event in events {
        let place = (event.tid, event.pid);
        match event.ph.as_str() {
            "M" if event.name == "thread_name" => {
                let name = event.args.get("name").and_then(|name| name.as_str());
                lanes.entry(place).or_default().0 = name.unwrap_or_default().to_owned();
            }
            "X" => {
                let class = CLASSES.iter().position(|class| class.name() == event.cat);
                let bar = (event.ts / 1e6, event.dur / 1e6, class.unwrap_or(3));
                lanes.entry(place).or_default().1.push(bar);
            }
            _ => {}
        }
    }
    let lanes: Vec<_> = lanes
        .into_values()
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let ends = lanes
        .iter()
        .flat_map(|(_, bars)| bars)
        .map(|bar| bar.0 + bar.1);
    let end_s = ends.fold(0.0, f64::max);
    let num_left_out = lanes.len().saturating_sub(MAX_RANKS);
    let mut drawn: Vec<Lane> = lanes
        .into_iter()
        .take(MAX_RANKS)
        .map(|(name, bars)| Lane::of(name, bars))
        .collect();
    if drawn.is_empty() || end_s <= 0.0 {
        return None;
    }
    let num_bars: usize = drawn.iter().map(|lane| lane.bars.len()).sum();
    let is_merged = num_bars > MAX_BARS;
    if is_merged {
        let columns = (MAX_BARS / drawn.len()).max(20);
        for lane in &mut drawn {
            lane.bars = merged(&lane.bars, end_s, columns);
        }
    }
    Some(Trace {
        name,
        end_s,
        lanes: drawn,
        num_left_out,
        is_merged,
    })
}

impl Lane {
    fn of(name: String, mut events: Vec<Bar>) -> Self {
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut totals = [0.0; 4];
        for &(_, duration, class) in &events {
            totals[class] += duration;
        }
        Lane {
            name,
            totals,
            bars: joined(&events),
        }
    }
}

/// Bars of one kind that touch become one.
fn joined(bars: &[Bar]) -> Vec<Bar> {
    /// Traces give times to the nanosecond.
    const TOUCHING: f64 = 2e-9;
    let mut joined: Vec<Bar> = Vec::new();
    for &(start, duration, class) in bars {
        match joined.last_mut() {
            Some(last) if last.2 == class && start <= last.0 + last.1 + TOUCHING => {
                last.1 = last.1.max(start + duration - last.0);
            }
            _ => joined.push((start, duration, class)),
        }
    }
    joined
}

/// For each of so many equal stretches of time a bar of the kind that took most of it.
fn merged(bars: &[Bar], end_s: f64, columns: usize) -> Vec<Bar> {
    let width = end_s / columns as f64;
    let mut by_column = vec![[0.0f64; 4]; columns];
    for &(start, duration, class) in bars {
        let end = start + duration;
        let first = ((start / width) as usize).min(columns - 1);
        let last = ((end / width) as usize).min(columns - 1);
        for (column, of_column) in by_column.iter_mut().enumerate().take(last + 1).skip(first) {
            let from = (column as f64 * width).max(start);
            let to = ((column + 1) as f64 * width).min(end);
            of_column[class] += (to - from).max(0.0);
        }
    }
    let most = by_column
        .iter()
        .enumerate()
        .filter_map(|(column, seconds)| {
            let (class, most) = seconds
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))?;
            (*most > 0.0).then_some((column as f64 * width, width, class))
        });
    joined(&most.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_that_touch_become_one() {
        let bars = [(0.0, 1.0, 0), (1.0, 1.0, 0), (2.0, 1.0, 1), (4.0, 1.0, 1)];
        assert_eq!(joined(&bars), [(0.0, 2.0, 0), (2.0, 1.0, 1), (4.0, 1.0, 1)]);
    }

    #[test]
    fn what_took_most_of_a_stretch_is_shown_where_there_is_too_much() {
        let bars = [(0.0, 6.0, 0), (6.0, 3.0, 1), (9.0, 1.0, 0), (10.0, 10.0, 2)];
        assert_eq!(
            merged(&bars, 20.0, 4),
            [(0.0, 5.0, 0), (5.0, 5.0, 1), (10.0, 10.0, 2)]
        );
    }

    #[test]
    fn a_trace_becomes_lanes_with_totals() {
        let event = |cat: &str, tid, ts, dur| Event {
            name: "work".to_owned(),
            ph: "X".to_owned(),
            pid: 0,
            tid,
            ts,
            dur,
            cat: cat.to_owned(),
            args: serde_json::Value::Null,
        };
        let events = [
            event("idle", 1, 0.0, 3e6),
            event("compute", 0, 0.0, 2e6),
            event("exposed communication", 0, 2e6, 1e6),
        ];
        let trace = trace("t".to_owned(), &events).unwrap();
        assert_eq!((trace.end_s, trace.lanes.len()), (3.0, 2));
        assert_eq!(trace.lanes[0].totals, [2.0, 1.0, 0.0, 0.0]);
        assert_eq!(trace.lanes[1].bars, [(0.0, 3.0, 2)]);
        assert!(!trace.is_merged);
    }
}
