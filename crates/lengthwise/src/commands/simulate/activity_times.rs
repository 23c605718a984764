//! What all ranks' time went into, by activity.

use std::collections::BTreeMap;

use lengthwise_core::{Activity, Seconds, TraceEvent, TraceSink};

use crate::trace_file::TraceFile;

/// Adds up events, and passes them on to a file if there is one.
pub(super) struct ActivityTimes {
    times: BTreeMap<Activity, Seconds>,
    trace: Option<TraceFile>,
}

impl ActivityTimes {
    pub(super) fn new(trace: Option<TraceFile>) -> Self {
        ActivityTimes {
            times: BTreeMap::new(),
            trace,
        }
    }

    /// The sums, and the file.
    pub(super) fn finish(self) -> (BTreeMap<Activity, Seconds>, Option<TraceFile>) {
        (self.times, self.trace)
    }
}

impl TraceSink for ActivityTimes {
    fn record(&mut self, event: &TraceEvent) {
        *self.times.entry(event.activity).or_default() += event.duration;
        if let Some(trace) = &mut self.trace {
            trace.record(event);
        }
    }
}
