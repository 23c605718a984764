//! The trace of a run: chosen steps, one after the other in a file.

use std::path::PathBuf;

use lengthwise_core::{Cluster, Seconds, TraceEvent, TraceSink};
use lengthwise_sim::TraceSource;

use crate::failure::Failure;
use crate::settings::Setting;
use crate::trace_file::TraceFile;

/// The file that steps are traced to.
pub struct Tracing {
    file: TraceFile,
    path: PathBuf,
    /// Where the last step ended.
    end: Seconds,
    steps: Vec<u64>,
    num_events: usize,
}

impl Tracing {
    /// Creates the file, or empties the one that is there.
    pub fn create(setting: &Setting<PathBuf>, cluster: &Cluster) -> Result<Self, Failure> {
        let path = &setting.value;
        let file = TraceFile::create(path, cluster, TraceSource::Measured)
            .map_err(|error| setting.breaks(format!("can't create {}: {error}", path.display())))?;
        Ok(Tracing {
            file,
            path: path.clone(),
            end: Seconds::ZERO,
            steps: Vec::new(),
            num_events: 0,
        })
    }

    /// Writes a step behind those before.
    pub fn step(&mut self, step: u64, events: &[TraceEvent]) {
        self.file.begin_step(step, self.end);
        for event in events {
            self.file.record(event);
        }
        let ends = events.iter().map(TraceEvent::end);
        self.end += ends.fold(Seconds::ZERO, Seconds::max);
        self.steps.push(step);
        self.num_events += events.len();
    }

    /// Ends the file; says what is in it.
    pub fn end(self) -> Result<String, Failure> {
        self.file.finish()?;
        let steps: Vec<String> = self.steps.iter().map(u64::to_string).collect();
        let plural = if steps.len() == 1 { "" } else { "s" };
        Ok(format!(
            "trace      step{plural} {} in {} events: open {} at https://ui.perfetto.dev",
            steps.join(", "),
            self.num_events,
            self.path.display()
        ))
    }
}
