//! Whether a file keeps the rules of the Trace Event Format, and those that make ours readable.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Map, Value};
use thiserror::Error;

/// What a trace that keeps all rules holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceSummary {
    /// Processes with a name.
    pub num_processes: usize,
    /// Threads with a name.
    pub num_threads: usize,
    /// Complete events by name.
    pub num_events: BTreeMap<String, u64>,
    /// The end of the last one, in microseconds.
    pub end_us: f64,
}

/// A rule that a trace breaks. Events are numbered in the order of the file.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum TraceProblem {
    /// No JSON at all.
    #[error("the trace is not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Not the object form of the format.
    #[error("the trace has no list traceEvents")]
    NoEvents,
    /// A key that is missing or of the wrong type.
    #[error("event {event}: {key} must be {rule}")]
    Key {
        event: usize,
        key: &'static str,
        rule: &'static str,
    },
    /// A kind of event that this format of ours has not.
    #[error(
        "event {event} has ph {phase:?}; complete (X), metadata (M) and counter (C) events are known"
    )]
    Phase { event: usize, phase: String },
    /// Something without a name that viewers could show.
    #[error("event {event} is of process {pid}, thread {tid}, which no metadata names")]
    Nameless { event: usize, pid: u64, tid: u64 },
    /// A name given twice.
    #[error("event {event} names process {pid} again")]
    NamedTwice { event: usize, pid: u64 },
    /// Events of one thread must be one in the other or one after the other.
    #[error(
        "event {event} of process {pid}, thread {tid} begins at {start_us} us inside of event {other} and ends after it"
    )]
    Overlap {
        event: usize,
        other: usize,
        pid: u64,
        tid: u64,
        start_us: f64,
    },
}

/// Reads a trace and checks it: keys and their types, times that are finite and not negative, names for every process
/// and thread, and events of one thread that nest or do not touch.
///
/// # Errors
///
/// The first rule broken.
pub fn check_chrome_trace(input: impl Read) -> Result<TraceSummary, TraceProblem> {
    let trace: Value = serde_json::from_reader(input)?;
    let events = trace
        .get("traceEvents")
        .and_then(Value::as_array)
        .ok_or(TraceProblem::NoEvents)?;
    let mut check = Check::default();
    for (event, value) in events.iter().enumerate() {
        let fields = value.as_object().ok_or(TraceProblem::Key {
            event,
            key: "the event",
            rule: "an object",
        })?;
        check.event(Event { event, fields })?;
    }
    check.finish()
}

#[derive(Default)]
struct Check {
    summary: TraceSummary,
    processes: BTreeMap<u64, String>,
    threads: BTreeMap<(u64, u64), String>,
    /// The complete events of each thread.
    spans: BTreeMap<(u64, u64), Vec<Span>>,
}

/// A complete event's time, and its number in the file.
#[derive(Clone, Copy)]
struct Span {
    start_us: f64,
    end_us: f64,
    event: usize,
}

#[derive(Clone, Copy)]
struct Event<'a> {
    event: usize,
    fields: &'a Map<String, Value>,
}

impl Event<'_> {
    fn key<T>(
        self,
        key: &'static str,
        rule: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, TraceProblem> {
        let event = self.event;
        let value = self.fields.get(key).and_then(read);
        value.ok_or(TraceProblem::Key { event, key, rule })
    }

    fn text(self, key: &'static str) -> Result<String, TraceProblem> {
        self.key(key, "text and not empty", |value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        })
    }

    fn number(self, key: &'static str) -> Result<u64, TraceProblem> {
        self.key(key, "a whole number, not negative", Value::as_u64)
    }

    fn time(self, key: &'static str) -> Result<f64, TraceProblem> {
        self.key(key, "a time in microseconds, not negative", |value| {
            value
                .as_f64()
                .filter(|time| time.is_finite() && *time >= 0.0)
        })
    }
}

impl Check {
    fn event(&mut self, event: Event<'_>) -> Result<(), TraceProblem> {
        let name = event.text("name")?;
        let pid = event.number("pid")?;
        match event.text("ph")?.as_str() {
            "M" => self.metadata(event, &name, pid),
            "X" => {
                let tid = event.number("tid")?;
                let (start, duration) = (event.time("ts")?, event.time("dur")?);
                if event.fields.contains_key("args") {
                    event.key("args", "an object", |args| args.as_object().map(|_| ()))?;
                }
                let span = Span {
                    start_us: start,
                    end_us: start + duration,
                    event: event.event,
                };
                self.spans.entry((pid, tid)).or_default().push(span);
                self.summary.end_us = self.summary.end_us.max(span.end_us);
                *self.summary.num_events.entry(name).or_default() += 1;
                Ok(())
            }
            "C" => {
                event.time("ts")?;
                event.key("args", "an object of numbers", |args| {
                    let args = args.as_object()?;
                    args.values().all(Value::is_number).then_some(())
                })
            }
            other => Err(TraceProblem::Phase {
                event: event.event,
                phase: other.to_owned(),
            }),
        }
    }

    fn metadata(&mut self, event: Event<'_>, name: &str, pid: u64) -> Result<(), TraceProblem> {
        let argument = |key: &'static str| {
            event.key("args", "an object with the name", |args| {
                args.get(key)?.as_str().map(str::to_owned)
            })
        };
        let twice = TraceProblem::NamedTwice {
            event: event.event,
            pid,
        };
        match name {
            "process_name" => match self.processes.insert(pid, argument("name")?) {
                Some(_) => Err(twice),
                None => Ok(()),
            },
            "thread_name" => {
                let tid = event.number("tid")?;
                match self.threads.insert((pid, tid), argument("name")?) {
                    Some(_) => Err(twice),
                    None => Ok(()),
                }
            }
            "process_sort_index" | "thread_sort_index" => {
                event.key("args", "an object with a number sort_index", |args| {
                    args.get("sort_index")?.as_i64().map(|_| ())
                })
            }
            _ => event.key("args", "an object", |args| args.as_object().map(|_| ())),
        }
    }

    fn finish(mut self) -> Result<TraceSummary, TraceProblem> {
        for (&(pid, tid), spans) in &mut self.spans {
            if !(self.processes.contains_key(&pid) && self.threads.contains_key(&(pid, tid))) {
                let event = spans[0].event;
                return Err(TraceProblem::Nameless { event, pid, tid });
            }
            // Of two that begin together, the longer holds the other.
            spans.sort_by(|a, b| {
                let by_start = a.start_us.total_cmp(&b.start_us);
                by_start.then(b.end_us.total_cmp(&a.end_us))
            });
            let mut open: Vec<Span> = Vec::new();
            for &span in spans.iter() {
                // Times are given to a nanosecond; their sums may be off in the last digit.
                let slack = 1e-4;
                while let Some(outer) = open.last()
                    && outer.end_us <= span.start_us + slack
                {
                    open.pop();
                }
                if let Some(outer) = open.last()
                    && span.end_us > outer.end_us + slack
                {
                    return Err(TraceProblem::Overlap {
                        event: span.event,
                        other: outer.event,
                        pid,
                        tid,
                        start_us: span.start_us,
                    });
                }
                open.push(span);
            }
        }
        self.summary.num_processes = self.processes.len();
        self.summary.num_threads = self.threads.len();
        Ok(self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = r#"{"name":"process_name","ph":"M","pid":0,"args":{"name":"node 0"}},
        {"name":"thread_name","ph":"M","pid":0,"tid":3,"args":{"name":"rank 3"}}"#;

    fn check(events: &str) -> Result<TraceSummary, String> {
        let trace = format!("{{\"traceEvents\":[{NAMES}{events}]}}");
        check_chrome_trace(trace.as_bytes()).map_err(|problem| problem.to_string())
    }

    fn span(start: f64, duration: f64) -> String {
        format!(r#",{{"name":"a","ph":"X","pid":0,"tid":3,"ts":{start},"dur":{duration}}}"#)
    }

    #[test]
    fn events_that_follow_or_nest_are_fine() {
        let events = [
            span(0.0, 10.0),
            span(10.0, 5.0),
            span(10.0, 2.0),
            span(12.0, 3.0),
        ];
        let summary = check(&events.concat()).unwrap();
        assert_eq!((summary.num_processes, summary.num_threads), (1, 1));
        assert_eq!((summary.num_events["a"], summary.end_us), (4, 15.0));
    }

    #[test]
    fn every_rule_can_be_broken() {
        let overlapping = [span(0.0, 10.0), span(9.0, 5.0)].concat();
        let in_nested = [span(0.0, 10.0), span(2.0, 4.0), span(5.0, 4.0)].concat();
        let messages: Vec<String> = [
            r#",3"#,
            r#",{"ph":"X","pid":0,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","pid":0,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":-1,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":"0","dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":0,"dur":-1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":0}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":0,"dur":1,"args":[]}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":4,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"B","pid":0,"tid":3,"ts":0}"#,
            r#",{"name":"a","ph":"C","pid":0,"ts":0,"args":{"load":"high"}}"#,
            r#",{"name":"process_name","ph":"M","pid":1}"#,
            r#",{"name":"process_name","ph":"M","pid":0,"args":{"name":"x"}}"#,
            &overlapping,
            &in_nested,
        ]
        .iter()
        .map(|events| check(events).unwrap_err())
        .collect();
        insta::assert_snapshot!(messages.join("\n"), @r#"
        event 2: the event must be an object
        event 2: name must be text and not empty
        event 2: ph must be text and not empty
        event 2: pid must be a whole number, not negative
        event 2: tid must be a whole number, not negative
        event 2: ts must be a time in microseconds, not negative
        event 2: dur must be a time in microseconds, not negative
        event 2: dur must be a time in microseconds, not negative
        event 2: args must be an object
        event 2 is of process 0, thread 4, which no metadata names
        event 2 has ph "B"; complete (X), metadata (M) and counter (C) events are known
        event 2: args must be an object of numbers
        event 2: args must be an object with the name
        event 2 names process 0 again
        event 3 of process 0, thread 3 begins at 9 us inside of event 2 and ends after it
        event 4 of process 0, thread 3 begins at 5 us inside of event 3 and ends after it
        "#);
        assert!(matches!(
            check_chrome_trace(&b"[]"[..]),
            Err(TraceProblem::NoEvents)
        ));
        assert!(matches!(
            check_chrome_trace(&b"{"[..]),
            Err(TraceProblem::Syntax(_))
        ));
    }
}
