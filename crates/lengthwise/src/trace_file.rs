//! Files of trace events, simulated or measured.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use lengthwise_core::{Cluster, Seconds, TraceEvent, TraceSink};
use lengthwise_sim::{ChromeTraceWriter, TraceSource};

use crate::failure::Failure;

/// A Chrome-trace file that is being written.
#[derive(Debug)]
pub(crate) struct TraceFile {
    path: PathBuf,
    writer: ChromeTraceWriter<BufWriter<File>>,
}

impl TraceFile {
    /// Creates the file, or empties it, and writes what comes before all events.
    pub(crate) fn create(path: &Path, cluster: &Cluster, source: TraceSource) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(TraceFile {
            path: path.to_owned(),
            writer: ChromeTraceWriter::new(file, cluster, source)?,
        })
    }

    /// Says that the events that follow are of this step, which begins at `start` in the file.
    pub(crate) fn begin_step(&mut self, step: u64, start: Seconds) {
        self.writer.begin_step(step, start);
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let written = self.writer.finish();
        written.map(|_| ()).map_err(|error| {
            Failure::run(format!(
                "trace {} can't be written: {error}",
                self.path.display()
            ))
        })
    }
}

impl TraceSink for TraceFile {
    fn record(&mut self, event: &TraceEvent) {
        self.writer.record(event);
    }
}
