//! A check of the rules of the Trace Event Format, and of those that make our traces readable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::Value;

use super::event::Event;
use super::{TraceProblem, TraceSource};

/// The contents of a trace that keeps all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSummary {
    /// Where its times come from.
    pub source: TraceSource,
    /// Processes with a name.
    pub num_processes: usize,
    /// Threads with a name.
    pub num_threads: usize,
    /// Steps with a number.
    pub num_steps: usize,
    /// Complete events by name.
    pub num_events: BTreeMap<String, u64>,
    /// The end of the last one, in microseconds.
    pub end_us: f64,
}

/// Reads a trace and checks it: keys and their types, times that are finite and not negative, names for every process
/// and thread, events of one thread that nest or do not touch, activities and figures that are known.
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
    let source = trace.pointer("/otherData/source");
    let source = TraceSource::ALL
        .into_iter()
        .find(|known| source.is_some_and(|source| source == known.name()))
        .ok_or(TraceProblem::NoSource)?;
    let mut check = Check::default();
    for (event, value) in events.iter().enumerate() {
        let fields = value.as_object().ok_or(TraceProblem::Key {
            event,
            key: "the event",
            rule: "an object",
        })?;
        check.event(Event { event, fields })?;
    }
    check.finish(source)
}

#[derive(Default)]
struct Check {
    num_events: BTreeMap<String, u64>,
    end_us: f64,
    steps: BTreeSet<u64>,
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

impl Check {
    fn event(&mut self, event: Event<'_>) -> Result<(), TraceProblem> {
        let name = event.text("name")?;
        let pid = event.number("pid")?;
        match event.text("ph")?.as_str() {
            "M" => self.metadata(event, &name, pid),
            "X" => {
                let tid = event.number("tid")?;
                let (start, duration) = (event.time("ts")?, event.time("dur")?);
                event.activity(&name, duration)?;
                let step = event.fields.get("args").and_then(|args| args.get("step"));
                self.steps.extend(step.and_then(Value::as_u64));
                let span = Span {
                    start_us: start,
                    end_us: start + duration,
                    event: event.event,
                };
                self.spans.entry((pid, tid)).or_default().push(span);
                self.end_us = self.end_us.max(span.end_us);
                *self.num_events.entry(name).or_default() += 1;
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

    fn finish(mut self, source: TraceSource) -> Result<TraceSummary, TraceProblem> {
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
        Ok(TraceSummary {
            source,
            num_processes: self.processes.len(),
            num_threads: self.threads.len(),
            num_steps: self.steps.len(),
            num_events: self.num_events,
            end_us: self.end_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = r#"{"name":"process_name","ph":"M","pid":0,"args":{"name":"node 0"}},
        {"name":"thread_name","ph":"M","pid":0,"tid":3,"args":{"name":"rank 3"}}"#;

    fn check(events: &str) -> Result<TraceSummary, String> {
        let trace = format!(
            "{{\"otherData\":{{\"source\":\"simulated\"}},\"traceEvents\":[{NAMES}{events}]}}"
        );
        check_chrome_trace(trace.as_bytes()).map_err(|problem| problem.to_string())
    }

    fn span(start: f64, duration: f64) -> String {
        let args = format!(
            r#"{{"start_s":{},"duration_s":{}}}"#,
            start / 1e6,
            duration / 1e6
        );
        format!(
            r#",{{"name":"dense","cat":"compute","ph":"X","pid":0,"tid":3,"ts":{start},"dur":{duration},"args":{args}}}"#
        )
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
        assert_eq!((summary.num_events["dense"], summary.end_us), (4, 15.0));
    }

    #[test]
    fn every_rule_can_be_broken() {
        let overlapping = [span(0.0, 10.0), span(9.0, 5.0)].concat();
        let in_nested = [span(0.0, 10.0), span(2.0, 4.0), span(5.0, 4.0)].concat();
        let with = |from: &str, to: &str| span(0.0, 1.0).replace(from, to);
        let unlike = [
            with("dense", "tea"),
            with("compute", "idle"),
            with("\"start_s\":0", "\"start_s\":-1"),
            with("\"start_s\":0,", ""),
            with("\"start_s\":0", "\"start_s\":0,\"pass\":\"up\""),
            with("\"start_s\":0", "\"start_s\":0,\"colour\":1"),
            with("0.000001", "0.000002"),
            with("\"pid\":0,\"tid\":3", "\"pid\":0,\"tid\":4"),
        ];
        let written = [
            r#",3"#,
            r#",{"ph":"X","pid":0,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","pid":0,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":-1,"tid":3,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"ts":0,"dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":"0","dur":1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":0,"dur":-1}"#,
            r#",{"name":"a","ph":"X","pid":0,"tid":3,"ts":0}"#,
            r#",{"name":"dense","cat":"compute","ph":"X","pid":0,"tid":3,"ts":0,"dur":1,"args":[]}"#,
            r#",{"name":"a","ph":"B","pid":0,"tid":3,"ts":0}"#,
            r#",{"name":"a","ph":"C","pid":0,"ts":0,"args":{"load":"high"}}"#,
            r#",{"name":"process_name","ph":"M","pid":1}"#,
            r#",{"name":"process_name","ph":"M","pid":0,"args":{"name":"x"}}"#,
            &overlapping,
            &in_nested,
        ];
        let all = written.into_iter().chain(unlike.iter().map(String::as_str));
        let messages: Vec<String> = all.map(|events| check(events).unwrap_err()).collect();
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
        event 2 has ph "B"; complete (X), metadata (M) and counter (C) events are known
        event 2: args must be an object of numbers
        event 2: args must be an object with the name
        event 2 names process 0 again
        event 3 of process 0, thread 3 begins at 9 us inside of event 2 and ends after it
        event 4 of process 0, thread 3 begins at 5 us inside of event 3 and ends after it
        event 2: name is tea; activities are embedding, dense, attention, output, optimizer, exchange, gather parameters, scatter gradients, copy layer inputs, overhead, wait
        event 2: cat is idle; that of dense is compute
        event 2: args.start_s is -1; it must be seconds, not negative
        event 2: start_s must be in args
        event 2: args.pass is "up"; it must be forward, recompute or backward
        event 2: args.colour is 1; there is no such figure
        event 2: args.duration_s is 0.000002; dur is 1 us
        event 2 is of process 0, thread 4, which no metadata names
        "#);
        assert!(matches!(
            check_chrome_trace(&b"[]"[..]),
            Err(TraceProblem::NoEvents)
        ));
        assert!(matches!(
            check_chrome_trace(&br#"{"traceEvents":[]}"#[..]),
            Err(TraceProblem::NoSource)
        ));
        assert!(matches!(
            check_chrome_trace(&b"{"[..]),
            Err(TraceProblem::Syntax(_))
        ));
    }
}
