//! The trace of a run: chosen steps, one after the other in a file.

use std::io::{self, Write};

use lengthwise_core::{Cluster, Seconds, TraceEvent, TraceSink};
use lengthwise_outputs::{FileOutput, NotSaved, OpenFile, Saved};
use lengthwise_sim::{ChromeTraceWriter, TraceSource};

use crate::failure::Failure;

type Writer = ChromeTraceWriter<Vec<u8>>;

/// The file that steps are traced to. It ends after a whole step at any time, whatever ends the run.
pub struct Tracing {
    file: OpenFile,
    /// Holds what is not in the file yet.
    writer: Writer,
    /// Up to here, the file is whole but for its end.
    len: u64,
    /// Where the last step ended.
    end: Seconds,
    steps: Vec<u64>,
    num_events: usize,
    /// After it, no more steps are traced.
    failure: Option<io::Error>,
}

impl Tracing {
    /// Begins the file.
    pub fn create(output: FileOutput, cluster: &Cluster) -> Result<Self, Failure> {
        let writer = Writer::new(Vec::new(), cluster, TraceSource::Measured);
        let writer = writer.map_err(|error| Failure::run(error.to_string()))?;
        Ok(Tracing {
            file: output.open()?,
            writer,
            len: 0,
            end: Seconds::ZERO,
            steps: Vec::new(),
            num_events: 0,
            failure: None,
        })
    }

    /// Writes a step behind those before; a warning if that fails.
    pub fn step(&mut self, step: u64, events: &[TraceEvent]) -> Option<String> {
        if self.failure.is_some() {
            return None;
        }
        self.writer.begin_step(step, self.end);
        for event in events {
            self.writer.record(event);
        }
        let bytes = std::mem::take(self.writer.out_mut());
        if let Err(error) = self.write(&bytes) {
            let path = self.file.path().display();
            let warning = format!(
                "can't write step {step} to the trace {path}: {error}; training goes on without"
            );
            self.failure = Some(error);
            return Some(warning);
        }
        let ends = events.iter().map(TraceEvent::end);
        self.end += ends.fold(Seconds::ZERO, Seconds::max);
        self.steps.push(step);
        self.num_events += events.len();
        None
    }

    /// Writes events over the end of the file, and the end behind them; if that fails, the end where it was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.file.is_file() {
            return self.file.write_all(bytes);
        }
        self.file.return_to(self.len)?;
        let written = self.file.write_all(&[bytes, Writer::END].concat());
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            Err(_) => {
                self.file.return_to(self.len)?;
                self.file.write_all(Writer::END)?;
            }
        }
        written
    }

    /// Ends the file; says what is in it, and what is wrong. A file without steps is none.
    pub fn end(mut self) -> (Option<String>, Option<String>) {
        if self.steps.is_empty() {
            let path = self.file.path().display();
            let lost = self
                .failure
                .map(|error| format!("the trace {path} has no steps: {error}"));
            return (None, lost);
        }
        let mut steps: Vec<String> = self.steps.iter().map(u64::to_string).collect();
        let plural = if steps.len() == 1 { "" } else { "s" };
        let ended = match self.file.is_file() {
            true => Ok(()),
            false => self.file.write_all(Writer::END),
        };
        let named = self.file.path().to_owned();
        let saved: Result<Saved, NotSaved> = self.file.finish();
        let elsewhere = crate::saved::problem("the trace", &saved);
        let path = saved.map_or(named.clone(), |saved| saved.path);
        let lost = self.failure.or(ended.err());
        let last = steps.last().cloned().unwrap_or_default();
        let lost = lost.map(|error| {
            format!(
                "the trace {} ends with step {last}: {error}",
                named.display()
            )
        });
        let steps = std::mem::take(&mut steps).join(", ");
        let note = format!(
            "trace      step{plural} {steps} in {} events: open {} at https://ui.perfetto.dev",
            self.num_events,
            path.display()
        );
        (Some(note), elsewhere.or(lost))
    }
}
