//! Events, written as they come.

use std::io::{self, Write};

use lengthwise_core::{Cluster, Seconds, TraceEvent, TraceSink};
use serde::Serialize;

/// Where the times of a trace come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceSource {
    /// A simulated step.
    Simulated,
    /// Steps that were run.
    Measured,
}

impl TraceSource {
    /// Both.
    pub const ALL: [TraceSource; 2] = [TraceSource::Simulated, TraceSource::Measured];

    /// The name it has in traces.
    pub const fn name(self) -> &'static str {
        match self {
            TraceSource::Simulated => "simulated",
            TraceSource::Measured => "measured",
        }
    }
}

/// Writes events as complete events (`"ph": "X"`): a node is a process, a rank a thread of it. Times are in
/// microseconds, rounded to nanoseconds at both ends, so that what does not overlap does not in the file either;
/// `args` holds the exact figures, since the step began.
///
/// Nothing is kept in memory. The file is complete once [`ChromeTraceWriter::finish`] has succeeded; it also gives
/// the first error that writing met.
#[derive(Debug)]
pub struct ChromeTraceWriter<W> {
    out: W,
    /// The node of each rank.
    nodes: Vec<u32>,
    has_events: bool,
    /// The step that events belong to, and when it begins in the file.
    step: (Option<u64>, Seconds),
    error: Option<io::Error>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    ph: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    args: NameArgs<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum NameArgs<'a> {
    Name { name: &'a str },
    SortIndex { sort_index: u32 },
}

#[derive(Serialize)]
struct Complete<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'a str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: Args<'a>,
}

#[derive(Serialize)]
struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    start_s: f64,
    duration_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    degree: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequences: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl<W> ChromeTraceWriter<W> {
    /// The text behind all events.
    pub const END: &[u8] = b"\n]}\n";
}

impl<W: Write> ChromeTraceWriter<W> {
    /// A writer that has named the source of the times, and the nodes and ranks of `cluster`.
    ///
    /// # Errors
    ///
    /// The result of writing to `out`.
    pub fn new(out: W, cluster: &Cluster, source: TraceSource) -> io::Result<Self> {
        let nodes = cluster
            .ranks()
            .map(|rank| cluster.node_of(rank).unwrap_or(0) as u32);
        let mut writer = ChromeTraceWriter {
            out,
            nodes: nodes.collect(),
            has_events: false,
            step: (None, Seconds::ZERO),
            error: None,
        };
        write!(
            writer.out,
            "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"source\":\"{}\"}},\"traceEvents\":[",
            source.name()
        )?;
        for node in 0..cluster.num_nodes() as u32 {
            writer.name("process_name", node, None, &format!("node {node}"))?;
            writer.sort("process_sort_index", node, None)?;
        }
        for rank in cluster.ranks() {
            let node = writer.nodes[rank.index()];
            writer.name("thread_name", node, Some(rank.0), &format!("rank {rank}"))?;
            writer.sort("thread_sort_index", node, Some(rank.0))?;
        }
        Ok(writer)
    }

    /// Says that the events that follow are of this step, which begins at `start` in the file. Without, they are of one
    /// step that has no number and begins at once.
    pub fn begin_step(&mut self, step: u64, start: Seconds) {
        self.step = (Some(step), start);
    }

    /// The writer.
    pub fn out_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// The first error met since the beginning.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.out.write_all(Self::END)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn name(&mut self, what: &str, pid: u32, tid: Option<u32>, name: &str) -> io::Result<()> {
        self.event(&Named {
            name: what,
            ph: "M",
            pid,
            tid,
            args: NameArgs::Name { name },
        })
    }

    fn sort(&mut self, what: &str, pid: u32, tid: Option<u32>) -> io::Result<()> {
        let sort_index = tid.unwrap_or(pid);
        self.event(&Named {
            name: what,
            ph: "M",
            pid,
            tid,
            args: NameArgs::SortIndex { sort_index },
        })
    }

    fn event(&mut self, event: &impl Serialize) -> io::Result<()> {
        let separator: &[u8] = if self.has_events { b",\n" } else { b"\n" };
        self.has_events = true;
        self.out.write_all(separator)?;
        serde_json::to_writer(&mut self.out, event).map_err(io::Error::from)
    }
}

impl<W: Write> TraceSink for ChromeTraceWriter<W> {
    fn record(&mut self, event: &TraceEvent) {
        if self.error.is_some() {
            return;
        }
        let (step, begins) = self.step;
        let start_ns = nanoseconds(begins + event.start);
        let end_ns = nanoseconds(begins + event.end());
        let written = self.event(&Complete {
            name: event.activity.name(),
            cat: event.activity.class().name(),
            ph: "X",
            ts: start_ns / 1e3,
            dur: (end_ns - start_ns) / 1e3,
            pid: self.nodes.get(event.rank.index()).copied().unwrap_or(0),
            tid: event.rank.0,
            args: Args {
                step,
                start_s: event.start.get(),
                duration_s: event.duration.get(),
                micro_batch: event.micro_batch,
                layer: event.layer,
                pass: event.pass.map(|pass| pass.name()),
                degree: event.load.map(|load| load.degree.get()),
                sequences: event.load.map(|load| load.num_sequences),
                tokens: event.load.map(|load| load.num_tokens.0),
                bytes: event.bytes.map(|bytes| bytes.0),
            },
        });
        self.error = written.err();
    }
}

fn nanoseconds(time: Seconds) -> f64 {
    (time.get() * 1e9).round()
}
