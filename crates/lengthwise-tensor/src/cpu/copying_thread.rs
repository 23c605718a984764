//! The thread that copies for a device while it computes.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::BackgroundCopy;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that copies one thing after the other. It is started for the first, and ends when this is dropped and all is
/// copied.
#[derive(Debug, Default)]
pub(super) struct CopyingThread {
    /// Where its work goes; `None` where the system had no thread to give.
    queue: OnceLock<Option<Sender<Work>>>,
}

impl CopyingThread {
    /// Begins `copy`, or does it at once where there is no thread.
    pub(super) fn start<T: Send + 'static>(
        &self,
        copy: impl FnOnce() -> T + Send + 'static,
    ) -> BackgroundCopy<T> {
        let Some(queue) = self.queue.get_or_init(queue) else {
            return BackgroundCopy::ended(copy());
        };
        let (under_way, end) = BackgroundCopy::begin();
        let work: Work = Box::new(move || end.end(copy()));
        if let Err(mpsc::SendError(work)) = queue.send(work) {
            work();
        }
        under_way
    }
}

fn queue() -> Option<Sender<Work>> {
    let (queue, works) = mpsc::channel::<Work>();
    let thread = thread::Builder::new().name("copies".to_owned());
    let started = thread.spawn(move || works.into_iter().for_each(|work| work()));
    started.ok().map(|_| queue)
}
