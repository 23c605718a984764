//! The fate of a world's ranks: the first failure, who has finished, and whether anyone can still go on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lengthwise_core::Rank;

use crate::CommError;

/// How a rank failed.
#[derive(Clone, Debug)]
pub(crate) enum FailureKind {
    /// Its body returned an error of this text.
    Reported(String),
    /// Its body panicked with this text.
    Panicked(String),
    /// It could not be started.
    NotStarted(String),
    /// A collective failed on it; its body may or may not pass that on.
    Communication(CommError),
}

/// The failure everything else follows from.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub rank: Rank,
    pub kind: FailureKind,
}

impl Failure {
    /// The error that the other ranks get.
    pub fn as_seen_by_peers(&self) -> CommError {
        let reason = match &self.kind {
            FailureKind::Reported(text) => text.clone(),
            FailureKind::Panicked(text) => format!("it panicked: {text}"),
            FailureKind::NotStarted(text) => format!("its thread could not be started: {text}"),
            FailureKind::Communication(error) => error.to_string(),
        };
        CommError::PeerFailed {
            rank: self.rank,
            reason,
        }
    }
}

/// The state of each rank of a world.
///
/// Whoever changes it must wake all that wait ([`crate::registry::World`] does); whoever waits must look at it
/// while holding the lock it waits with, so that no change is missed.
#[derive(Debug)]
pub(crate) struct Fate {
    failure: OnceLock<Failure>,
    finished: Vec<AtomicBool>,
    /// Ranks that neither wait nor have finished. A rank that waits is counted again by whoever ends its wait, before
    /// that one can wait itself: so this is 0 only once nobody is left to end a wait.
    num_going: AtomicUsize,
    longest_wait: Duration,
}

impl Fate {
    /// That of ranks none of which waits in one call for longer than `longest_wait`.
    pub fn new(num_ranks: usize, longest_wait: Duration) -> Self {
        Fate {
            failure: OnceLock::new(),
            finished: (0..num_ranks).map(|_| AtomicBool::new(false)).collect(),
            num_going: AtomicUsize::new(num_ranks),
            longest_wait,
        }
    }

    /// Keeps `failure` if it is the first.
    pub fn fail(&self, failure: Failure) {
        // A later failure follows from the first, or would have been found after it: either is of no interest.
        let _ = self.failure.set(failure);
    }

    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// The error for a call made after a failure.
    pub fn check(&self) -> Result<(), CommError> {
        match self.failure.get() {
            Some(failure) => Err(failure.as_seen_by_peers()),
            None => Ok(()),
        }
    }

    pub fn finish(&self, rank: Rank) {
        if let Some(finished) = self.finished.get(rank.index()) {
            finished.store(true, Ordering::Release);
            self.begin_wait();
        }
    }

    /// Counts a rank out that waits, or will never come again.
    pub fn begin_wait(&self) {
        self.num_going.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts ranks in that wait no longer.
    pub fn end_waits(&self, num_ranks: usize) {
        self.num_going.fetch_add(num_ranks, Ordering::SeqCst);
    }

    /// Whether nobody is left to end a wait.
    pub fn is_stuck(&self) -> bool {
        self.num_going.load(Ordering::SeqCst) == 0
    }

    /// For how long a rank waits in one call at most.
    pub fn longest_wait(&self) -> Duration {
        self.longest_wait
    }

    pub fn is_finished(&self, rank: Rank) -> bool {
        self.finished
            .get(rank.index())
            .is_some_and(|finished| finished.load(Ordering::Acquire))
    }
}
