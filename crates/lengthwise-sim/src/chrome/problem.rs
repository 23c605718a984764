//! The faults that a trace can have.

use thiserror::Error;

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
    /// Nothing says where the times come from.
    #[error("otherData.source must be simulated or measured")]
    NoSource,
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
    /// An event that is not what its name says.
    #[error("event {event}: {key} is {value}; {rule}")]
    Schema {
        event: usize,
        key: String,
        value: String,
        rule: String,
    },
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
