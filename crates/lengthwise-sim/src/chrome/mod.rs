//! Events in the Trace Event Format of Chrome, which Perfetto opens: written, and checked.

mod check;
mod writer;

pub use check::{TraceProblem, TraceSummary, check_chrome_trace};
pub use writer::ChromeTraceWriter;
