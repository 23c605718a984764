//! Planning ahead: plans on threads of their own while the caller trains.

use std::collections::VecDeque;
use std::num::NonZero;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use lengthwise_core::Tokens;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::fault::Fault;
use crate::lengths;
use crate::plan::Plan;
use crate::planning::Planning;
use crate::promise::{Outcome, Promise};

/// Batches with their plans, in order; `Planner.ahead` makes it.
///
/// Batches are drawn when the next one is asked for, on the caller's thread. Plans are made on threads of their own,
/// which end with this iterator.
#[pyclass(module = "lengthwise")]
pub(crate) struct Ahead {
    planning: Arc<Planning>,
    batches: Option<Py<PyIterator>>,
    depth: usize,
    queue: VecDeque<Entry>,
    workers: Workers,
    /// Threads don't survive a fork.
    process: u32,
}

/// A batch that was drawn.
enum Entry {
    Planned {
        lengths: Py<PyAny>,
        plan: Promise,
    },
    /// What came instead of one.
    Failed(PyErr),
}

impl Ahead {
    /// Nothing is drawn yet.
    pub(crate) fn new(
        planning: Arc<Planning>,
        batches: Bound<'_, PyIterator>,
        depth: NonZero<u32>,
    ) -> PyResult<Self> {
        let depth = depth.get() as usize;
        Ok(Ahead {
            workers: Workers::new(&planning, depth)?,
            planning,
            batches: Some(batches.unbind()),
            depth,
            queue: VecDeque::new(),
            process: process::id(),
        })
    }

    /// Draws batches until enough are under way, or there are no more.
    fn fill(&mut self, py: Python<'_>) {
        while self.queue.len() < self.depth
            && let Some(batches) = &self.batches
        {
            let entry = match batches.bind(py).clone().next() {
                None => {
                    self.batches = None;
                    return;
                }
                Some(Ok(batch)) => self.entry(batch),
                Some(Err(error)) => {
                    self.batches = None;
                    Entry::Failed(error)
                }
            };
            self.queue.push_back(entry);
        }
    }

    fn entry(&self, batch: Bound<'_, PyAny>) -> Entry {
        match lengths::read(&batch) {
            Ok(seq_lens) => Entry::Planned {
                lengths: batch.unbind(),
                plan: self.workers.plan(seq_lens),
            },
            Err(error) => Entry::Failed(error),
        }
    }
}

#[pymethods]
impl Ahead {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>, Plan)>> {
        if process::id() != self.process {
            let fault = Fault::input(format!(
                "plans are made in process {}, and asked for in process {}; threads end with a fork",
                self.process,
                process::id()
            ));
            let hint = "call ahead in the process that uses its plans";
            return Err(fault.with_hint(hint).raise(py));
        }
        self.fill(py);
        let (lengths, plan) = match self.queue.pop_front() {
            None => return Ok(None),
            Some(Entry::Failed(error)) => return Err(error),
            Some(Entry::Planned { lengths, plan }) => (lengths, plan),
        };
        match plan.wait(py) {
            Ok(Ok(made)) => {
                let plan = Plan::made(made, Arc::clone(&self.planning));
                Ok(Some((lengths, plan)))
            }
            Ok(Err(fault)) => Err(fault.raise(py)),
            Err(interrupt) => {
                self.queue.push_front(Entry::Planned { lengths, plan });
                Err(interrupt)
            }
        }
    }

    fn __repr__(&self) -> String {
        format!(
            "Ahead({} of {} plans under way)",
            self.queue.len(),
            self.depth
        )
    }
}

/// Threads that plan; they end with this.
struct Workers {
    jobs: Sender<Job>,
    are_dropped: Arc<AtomicBool>,
}

struct Job {
    seq_lens: Vec<Tokens>,
    done: Sender<Outcome>,
}

impl Workers {
    /// As many as there may be plans under way, or cores.
    fn new(planning: &Arc<Planning>, depth: usize) -> PyResult<Self> {
        let num_cores = available_parallelism().map_or(1, NonZero::get);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let are_dropped = Arc::new(AtomicBool::new(false));
        for _ in 0..depth.min(num_cores) {
            let (planning, queue) = (Arc::clone(planning), Arc::clone(&queue));
            let are_dropped = Arc::clone(&are_dropped);
            let thread = Builder::new().name("lengthwise-ahead".to_owned());
            thread.spawn(move || work(&planning, &queue, &are_dropped))?;
        }
        Ok(Workers { jobs, are_dropped })
    }

    fn plan(&self, seq_lens: Vec<Tokens>) -> Promise {
        let (done, plan) = Promise::new();
        // Threads end only after this has; if they did not, the plan would be missed where it is asked for.
        let _ = self.jobs.send(Job { seq_lens, done });
        plan
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.are_dropped.store(true, Ordering::Relaxed);
    }
}

/// Plans until there is nobody left to plan for.
fn work(planning: &Planning, queue: &Mutex<Receiver<Job>>, are_dropped: &AtomicBool) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { seq_lens, done }) = job else {
            return;
        };
        if are_dropped.load(Ordering::Relaxed) {
            return;
        }
        // Nobody may wait for it any longer.
        let _ = done.send(planning.plan(seq_lens, false));
    }
}
