//! Events in the Trace Event Format of Chrome, which Perfetto opens: written, and checked.

mod check;
mod event;
mod problem;
mod writer;

pub use check::{TraceSummary, check_chrome_trace};
pub use problem::TraceProblem;
pub use writer::{ChromeTraceWriter, TraceSource};
