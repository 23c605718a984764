//! A file of trace events.

use std::fs::File;
use std::io::BufWriter;
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
    pub(crate) fn create(
        path: &Path,
        cluster: &Cluster,
        source: TraceSource,
    ) -> Result<Self, Failure> {
        let writer = File::create(path)
            .and_then(|file| ChromeTraceWriter::new(BufWriter::new(file), cluster, source))
            .map_err(|error| {
                let message = format!("trace {} can't be created: {error}", path.display());
                Failure::input(message)
            })?;
        Ok(TraceFile {
            path: path.to_owned(),
            writer,
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
