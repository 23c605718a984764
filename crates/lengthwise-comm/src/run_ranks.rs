//! Running a world: one thread for each rank.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lengthwise_core::Rank;
use lengthwise_tensor::Backend;
use thiserror::Error;

use crate::emulation::{EmulatedCluster, Emulation, VirtualClock};
use crate::failure::{Failure, FailureKind};
use crate::registry::World;
use crate::{CommError, ThreadCommunicator};

/// How the ranks of a world run.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldOptions {
    /// The cluster that they emulate; `None` to run as fast as they can.
    pub emulation: Option<Emulation>,
    /// For how long a rank waits in one call for others that compute. Then it fails with
    /// [`CommError::WaitedTooLong`], which says who waits for whom. Ranks that wait for each other need no time limit.
    pub longest_wait: Duration,
}

impl WorldOptions {
    /// Longer than any rank computes between two calls.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
}

impl Default for WorldOptions {
    fn default() -> Self {
        WorldOptions {
            emulation: None,
            longest_wait: Self::LONGEST_WAIT,
        }
    }
}

/// The failure that ended a job. Those that followed from it on other ranks are not shown.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("rank {rank} {cause}")]
pub struct RankFailure<E> {
    /// The rank that failed first.
    pub rank: Rank,
    /// How it failed.
    pub cause: FailureCause<E>,
}

/// How a rank failed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum FailureCause<E> {
    /// Its body returned this error.
    #[error("failed: {0}")]
    Error(E),
    /// Its body panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The text of the panic.
        message: String,
    },
    /// Its thread could not be started.
    #[error("could not be started: {reason}")]
    NotStarted {
        /// The operating system's error.
        reason: String,
    },
    /// A collective failed on it, though its body did not return that error; or it made a call that others never made.
    #[error("failed: {0}")]
    Communication(CommError),
}

enum Outcome<R, E> {
    Finished(R),
    Failed(E),
    Died,
}

/// Runs `body` once for each backend, as the ranks of one world on threads of their own, and returns what they
/// return, by rank.
///
/// The first rank whose body fails or panics ends all others with [`CommError::PeerFailed`] at their pending or
/// next call; it is the one in the [`RankFailure`]. A rank that finishes without a call others wait for fails them
/// too ([`CommError::PeerFinished`]), and so do ranks that wait for each other ([`CommError::Deadlock`]). Bodies that never call each other run to their end in any case.
///
/// A panic is known to the others once it unwinds: after the process's panic hook, which may take a while where it
/// prints a backtrace.
pub fn run_ranks<B, R, E>(
    backends: Vec<B>,
    body: impl Fn(ThreadCommunicator<B>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, RankFailure<E>>
where
    B: Backend,
    R: Send,
    E: Display + Send,
{
    run_ranks_with(backends, &WorldOptions::default(), body)
}

/// Runs `body` as [`run_ranks`] does, with other options.
///
/// # Panics
///
/// There is not one backend for each device of the cluster that is emulated.
pub fn run_ranks_with<B, R, E>(
    backends: Vec<B>,
    options: &WorldOptions,
    body: impl Fn(ThreadCommunicator<B>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, RankFailure<E>>
where
    B: Backend,
    R: Send,
    E: Display + Send,
{
    let WorldOptions {
        emulation,
        longest_wait,
    } = options;
    if let Some(emulation) = emulation {
        let num_devices = emulation.cluster().num_devices();
        assert_eq!(
            backends.len(),
            num_devices as usize,
            "the emulated cluster has {num_devices} devices, each of which needs one backend"
        );
    }
    let emulated = emulation
        .as_ref()
        .map(|one| Arc::new(EmulatedCluster::new(one)));
    let world = Arc::new(World::new(backends.len(), emulated, *longest_wait));
    let outcomes: Vec<Outcome<R, E>> = thread::scope(|scope| {
        let (world, body) = (&world, &body);
        let threads: Vec<_> = (0..)
            .map(Rank)
            .zip(backends)
            .map(|(rank, backend)| {
                thread::Builder::new()
                    .name(format!("rank {rank}"))
                    .spawn_scoped(scope, move || {
                        let clock = (world.emulated())
                            .map(|emulated| VirtualClock::start(emulated.clone(), rank));
                        let of_rank = clock.clone();
                        let outcome = run_rank(world, rank, || {
                            let world = Arc::clone(world);
                            body(ThreadCommunicator::new(world, rank, backend, of_rank))
                        });
                        if let Some(clock) = clock {
                            clock.end_turn();
                        }
                        outcome
                    })
                    .inspect_err(|error| {
                        world.fail(rank, FailureKind::NotStarted(error.to_string()));
                    })
            })
            .collect();
        (0..)
            .map(Rank)
            .zip(threads)
            .map(|(rank, thread)| {
                let Ok(thread) = thread else {
                    return Outcome::Died;
                };
                thread.join().unwrap_or_else(|payload| {
                    world.fail(rank, FailureKind::Panicked(panic_text(&*payload)));
                    Outcome::Died
                })
            })
            .collect()
    });
    conclude(&world, outcomes)
}

/// Runs one rank and tells the others how it ended.
fn run_rank<T, R, E: Display>(
    world: &World<T>,
    rank: Rank,
    body: impl FnOnce() -> Result<R, E>,
) -> Outcome<R, E> {
    // `{:#}` shows the causes too, for errors that keep them apart. It runs code of the error type: also guarded.
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        body().map_err(|error| (format!("{error:#}"), error))
    }));
    match guarded {
        Ok(Ok(result)) => {
            world.finish(rank);
            Outcome::Finished(result)
        }
        Ok(Err((text, error))) => {
            world.fail(rank, FailureKind::Reported(text));
            Outcome::Failed(error)
        }
        Err(payload) => {
            world.fail(rank, FailureKind::Panicked(panic_text(&*payload)));
            Outcome::Died
        }
    }
}

fn conclude<T, R, E>(
    world: &World<T>,
    mut outcomes: Vec<Outcome<R, E>>,
) -> Result<Vec<R>, RankFailure<E>> {
    if let Some(Failure { rank, kind }) = world.failure().cloned() {
        let original = outcomes.swap_remove(rank.index());
        let cause = match (original, kind) {
            (Outcome::Failed(error), _) => FailureCause::Error(error),
            (_, FailureKind::Panicked(message) | FailureKind::Reported(message)) => {
                FailureCause::Panicked { message }
            }
            (_, FailureKind::NotStarted(reason)) => FailureCause::NotStarted { reason },
            (_, FailureKind::Communication(error)) => FailureCause::Communication(error),
        };
        return Err(RankFailure { rank, cause });
    }
    if let Some((rank, error)) = world.unanswered_call() {
        let cause = FailureCause::Communication(error);
        return Err(RankFailure { rank, cause });
    }
    let results = outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Finished(result) => Some(result),
        // Either has set the world's failure.
        Outcome::Failed(_) | Outcome::Died => None,
    });
    Ok(results.collect())
}

/// The text of a panic that was caught.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("its panic carries no text")
        .to_owned()
}
