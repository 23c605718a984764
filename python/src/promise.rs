//! A plan under way on another thread, and who waits for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::fault::Fault;
use crate::planning::Made;

/// How often waiting looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// A plan, or why there is none.
pub(crate) type Outcome = Result<Made, Fault>;

/// A plan under way. Python objects are shared between threads, and a receiver belongs to one at a time.
pub(crate) struct Promise(Mutex<Receiver<Outcome>>);

impl Promise {
    /// What the thread that plans sends to, and the promise that it keeps.
    pub(crate) fn new() -> (Sender<Outcome>, Self) {
        let (done, plan) = channel();
        (done, Promise(Mutex::new(plan)))
    }

    /// Waits while other Python threads run.
    ///
    /// # Errors
    ///
    /// What the handler of a signal raises, which Ctrl-C does; the promise holds, and can be waited for again.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Outcome> {
        loop {
            let received = py.detach(|| {
                let plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                plan.recv_timeout(SIGNALS)
            });
            match received {
                Ok(outcome) => return Ok(outcome),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Fault::internal("a planning thread has ended")));
                }
            }
        }
    }
}
