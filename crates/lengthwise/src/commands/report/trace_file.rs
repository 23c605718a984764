//! Traces of steps, as bars of what every rank did.

use std::collections::BTreeMap;
use std::path::Path;

use lengthwise_core::ActivityClass;
use lengthwise_sim::check_chrome_trace;
use serde::{Deserialize, Serialize};

use super::source;
use crate::failure::Failure;

/// Bars that a page can draw; beyond, those of a stretch of time are sorted by kind and merged.
const MAX_BARS: usize = 8000;

/// Steps of a file that are kept, spread over it.
const MAX_STEPS: usize = 16;

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

/// By thread and process.
type BarsOfLanes = BTreeMap<(u64, u64), Vec<Bar>>;

/// What every rank did in a step; fields are the keys that the page's scripts read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Trace {
    pub(super) name: String,
    /// Which step of a run, where it is one of several.
    pub(super) step: Option<u64>,
    pub(super) end_s: f64,
    pub(super) lanes: Vec<Lane>,
    /// Ranks that are not drawn.
    pub(super) num_left_out: usize,
    /// Whether bars are of all events of a kind in a stretch of time, rather than of single events.
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
    #[serde(rename = "otherData")]
    other: OtherData,
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct OtherData {
    source: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    name: String,
    ph: String,
    pid: u64,
    #[serde(default)]
    tid: u64,
    #[serde(default)]
    cat: String,
    #[serde(default)]
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
struct Args {
    name: Option<String>,
    step: Option<u64>,
    #[serde(default)]
    start_s: f64,
    #[serde(default)]
    duration_s: f64,
}

/// Reads what `simulate` or `train` has written with `--trace`: a trace for each step.
pub(super) fn read(path: &Path) -> Result<Vec<Trace>, Failure> {
    let text = source::read(path, "trace")?;
    let failure = |rule: String| {
        let message = format!("trace {}: {rule}", path.display());
        Failure::input(message).hint("traces are what lengthwise writes with --trace")
    };
    check_chrome_trace(text.as_bytes()).map_err(|problem| failure(problem.to_string()))?;
    let file: File = serde_json::from_str(&text).map_err(|error| failure(error.to_string()))?;
    let traces = traces(&source::stem(path), &file);
    if traces.is_empty() {
        let rule = "it has no events of ranks; a report needs at least one";
        return Err(failure(rule.to_owned()));
    }
    Ok(traces)
}

fn traces(name: &str, file: &File) -> Vec<Trace> {
    let mut names: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    let mut steps: BTreeMap<Option<u64>, BarsOfLanes> = BTreeMap::new();
    for event in &file.events {
        let place = (event.tid, event.pid);
        match event.ph.as_str() {
            "M" if event.name == "thread_name" => {
                names.insert(place, event.args.name.as_deref().unwrap_or_default());
            }
            "X" => {
                let class = CLASSES.iter().position(|class| class.name() == event.cat);
                let args = &event.args;
                let bar = (args.start_s, args.duration_s, class.unwrap_or(3));
                let lanes = steps.entry(args.step).or_default();
                lanes.entry(place).or_default().push(bar);
            }
            _ => {}
        }
    }
    let (num, kept) = (steps.len(), steps.len().min(MAX_STEPS));
    let is_kept = |at: usize| (0..kept).any(|place| (num - 1) * place / (kept - 1).max(1) == at);
    let all = steps.into_iter().enumerate();
    let traces = all
        .filter(|&(at, _)| is_kept(at))
        .filter_map(|(_, (step, lanes))| {
            let of_step = step.map_or_else(String::new, |step| format!(", step {step}"));
            let lanes = lanes.into_iter().map(|(place, bars)| {
                let name = names.get(&place).copied().unwrap_or_default();
                Lane::of(name.to_owned(), bars)
            });
            let name = format!("{name}{of_step} ({})", file.other.source);
            Trace::of(name, step, lanes.collect())
        });
    traces.collect()
}

impl Trace {
    /// `None` where nothing takes time.
    fn of(name: String, step: Option<u64>, mut lanes: Vec<Lane>) -> Option<Self> {
        let bars = || lanes.iter().flat_map(|lane| &lane.bars);
        let end_s = bars().map(|bar| bar.0 + bar.1).fold(0.0, f64::max);
        let num_left_out = lanes.len().saturating_sub(MAX_RANKS);
        lanes.truncate(MAX_RANKS);
        let num_bars: usize = lanes.iter().map(|lane| lane.bars.len()).sum();
        let is_merged = num_bars > MAX_BARS;
        if is_merged {
            let columns = (MAX_BARS / (2 * lanes.len())).max(20);
            for lane in &mut lanes {
                lane.bars = merged(&lane.bars, end_s, columns);
            }
        }
        (end_s > 0.0).then_some(Trace {
            name,
            step,
            end_s,
            lanes,
            num_left_out,
            is_merged,
        })
    }
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

/// For each of so many equal stretches of time one bar of each kind, as long as all of that kind there.
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
    let by_kind = by_column.iter().enumerate().flat_map(|(column, seconds)| {
        let mut start = column as f64 * width;
        let bars = seconds.iter().enumerate().map(move |(class, &duration)| {
            let bar = (start, duration, class);
            start += duration;
            bar
        });
        bars.filter(|bar| bar.1 > 0.0)
    });
    joined(&by_kind.collect::<Vec<_>>())
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
    fn bars_of_a_stretch_are_sorted_by_kind_and_last_as_long_as_before() {
        let bars = [(0.0, 2.0, 1), (2.0, 2.0, 0), (4.0, 2.0, 1), (6.0, 8.0, 2)];
        let merged = merged(&bars, 16.0, 2);
        assert_eq!(
            merged,
            [(0.0, 2.0, 0), (2.0, 4.0, 1), (6.0, 8.0, 2)],
            "the last bar crosses two stretches"
        );
    }

    #[test]
    fn a_trace_becomes_lanes_with_totals_for_each_step() {
        let event = |cat: &str, tid, step, start_s, duration_s| Event {
            name: "work".to_owned(),
            ph: "X".to_owned(),
            pid: 0,
            tid,
            cat: cat.to_owned(),
            args: Args {
                name: None,
                step,
                start_s,
                duration_s,
            },
        };
        let named = Event {
            name: "thread_name".to_owned(),
            ph: "M".to_owned(),
            args: Args {
                name: Some("rank 1".to_owned()),
                ..Args::default()
            },
            ..event("", 1, None, 0.0, 0.0)
        };
        let file = |events| File {
            other: OtherData {
                source: "measured".to_owned(),
            },
            events,
        };
        let step = Some(4);
        let events = vec![
            named,
            event("idle", 1, step, 0.0, 3.0),
            event("compute", 0, step, 0.0, 2.0),
            event("exposed communication", 0, step, 2.0, 1.0),
            event("compute", 1, Some(5), 0.0, 0.5),
        ];
        let traces = traces("t", &file(events));
        assert_eq!(traces.len(), 2);
        assert_eq!(traces[0].name, "t, step 4 (measured)");
        assert_eq!((traces[0].end_s, traces[0].lanes.len()), (3.0, 2));
        assert_eq!(traces[0].lanes[0].totals, [2.0, 1.0, 0.0, 0.0]);
        assert_eq!(traces[0].lanes[1].bars, [(0.0, 3.0, 2)]);
        assert_eq!((traces[1].step, traces[1].end_s), (Some(5), 0.5));
        assert_eq!(traces[1].lanes[0].name, "rank 1");
        assert!(!traces[0].is_merged);
    }

    #[test]
    fn of_many_steps_the_first_the_last_and_some_between_are_kept() {
        let event = |step| Event {
            name: "work".to_owned(),
            ph: "X".to_owned(),
            pid: 0,
            tid: 0,
            cat: "compute".to_owned(),
            args: Args {
                step: Some(step),
                duration_s: 1.0,
                ..Args::default()
            },
        };
        let file = File {
            other: OtherData {
                source: "measured".to_owned(),
            },
            events: (1..=1000).map(event).collect(),
        };
        let steps: Vec<_> = traces("t", &file).iter().map(|trace| trace.step).collect();
        assert_eq!(steps.len(), MAX_STEPS);
        assert_eq!((steps[0], steps[MAX_STEPS - 1]), (Some(1), Some(1000)));
    }
}
