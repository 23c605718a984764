//! The file of a simulated step's events.

use std::io::{self, BufWriter};

use lengthwise_core::{Cluster, TraceEvent, TraceSink};
use lengthwise_outputs::{FileOutput, NotSaved, OpenFile, Saved};
use lengthwise_sim::{ChromeTraceWriter, TraceSource};

use crate::failure::Failure;

/// A Chrome-trace file that is being written.
#[derive(Debug)]
pub(crate) struct TraceFile {
    writer: ChromeTraceWriter<BufWriter<OpenFile>>,
}

impl TraceFile {
    /// Begins the file, and writes what comes before all events.
    pub(crate) fn create(output: FileOutput, cluster: &Cluster) -> Result<Self, Failure> {
        let file = BufWriter::new(output.open()?);
        let writer = ChromeTraceWriter::new(file, cluster, TraceSource::Simulated);
        let writer = writer.map_err(|error| unwritten(&error))?;
        Ok(TraceFile { writer })
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<Result<Saved, NotSaved>, Failure> {
        let file = self.writer.finish().map_err(|error| unwritten(&error))?;
        let file = file.into_inner();
        let file = file.map_err(|error| unwritten(error.error()))?;
        Ok(file.finish())
    }
}

fn unwritten(error: &io::Error) -> Failure {
    Failure::unsaved(format!("the trace can't be written: {error}"))
}

impl TraceSink for TraceFile {
    fn record(&mut self, event: &TraceEvent) {
        self.writer.record(event);
    }
}
