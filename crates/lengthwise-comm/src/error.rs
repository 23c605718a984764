//! The errors of ranks.

use std::time::Duration;

use lengthwise_core::Rank;
use lengthwise_tensor::TensorError;
use thiserror::Error;

use crate::call::spaced;
use crate::wait::{listed, named, wait_or_waits};
use crate::{Call, Wait};

/// An error among ranks. Ranks are global unless they are called group ranks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommError {
    /// Another rank failed first; the job is over.
    #[error("rank {rank} failed: {reason}")]
    PeerFailed {
        /// The rank that failed first.
        rank: Rank,
        /// Its error or the text of its panic.
        reason: String,
    },
    /// A rank ended without taking part in a call of its group.
    #[error(
        "call {position} of the group {} is {call}, but rank {rank} has finished without making it",
        spaced(members)
    )]
    PeerFinished {
        /// The rank that has finished.
        rank: Rank,
        /// The call it is waited for in.
        call: Call,
        /// Which call of the group it is, counted from 1.
        position: u64,
        /// The group.
        members: Vec<Rank>,
    },
    /// Every rank that has not finished waits for one that waits too, in another call.
    #[error("the ranks wait for each other and can't go on: {}", listed(waits))]
    Deadlock {
        /// All of them, by the first rank that waits.
        waits: Vec<Wait>,
    },
    /// A rank that is waited for did not come, though it neither waits nor has finished.
    #[error(
        "rank {rank} has waited for {longest_wait:?}, which is as long as a call may wait: {}; {}",
        listed(waits),
        waiting_for_nobody(elsewhere)
    )]
    WaitedTooLong {
        /// The rank that gave up.
        rank: Rank,
        /// For how long a rank waits in one call at most.
        longest_wait: Duration,
        /// All that wait, by the first rank that does.
        waits: Vec<Wait>,
        /// Ranks that neither wait for others nor have finished.
        elsewhere: Vec<Rank>,
    },
    /// Members called different things, or the same with arguments that must be equal and are not.
    #[error(
        "call {position} of the group {} must be the same on all its ranks, but on rank {a} it is {call_on_a}, \
         on rank {b} {call_on_b}",
        spaced(members)
    )]
    CallMismatch {
        /// Which call of the group it is, counted from 1.
        position: u64,
        /// The group.
        members: Vec<Rank>,
        /// The lower of two ranks that disagree.
        a: Rank,
        /// Its call.
        call_on_a: Call,
        /// The higher one.
        b: Rank,
        /// Its call.
        call_on_b: Call,
    },
    /// Not one tensor for each rank.
    #[error(
        "all_to_all_v on rank {rank} was given {num_tensors} tensors for a group of {size}; it needs one for each rank"
    )]
    WrongNumTensors {
        /// The calling rank.
        rank: Rank,
        /// The number of tensors it passed.
        num_tensors: usize,
        /// The number of ranks.
        size: usize,
    },
    /// Not one row count for each rank.
    #[error(
        "reduce_scatter_v on rank {rank} was given {num_counts} row counts for a group of {size}; it needs one for \
         each rank"
    )]
    WrongNumRowCounts {
        /// The calling rank.
        rank: Rank,
        /// The number of counts it passed.
        num_counts: usize,
        /// The number of ranks.
        size: usize,
    },
    /// Row counts that do not cover the tensor.
    #[error(
        "reduce_scatter_v on rank {rank} was given row counts {} for a tensor of {rows} rows; they must add up to that",
        spaced(row_counts)
    )]
    WrongRowSum {
        /// The calling rank.
        rank: Rank,
        /// The counts it passed.
        row_counts: Vec<usize>,
        /// Rows of the tensor it passed.
        rows: usize,
    },
    /// A root outside the group.
    #[error(
        "broadcast on rank {rank} names group rank {root} as its root; the group has {size} ranks, counted from 0"
    )]
    UnknownRoot {
        /// The calling rank.
        rank: Rank,
        /// The group rank it named.
        root: Rank,
        /// The number of ranks.
        size: usize,
    },
    /// A root that has nothing to send.
    #[error("broadcast on rank {rank} was given no tensor; the root must pass one")]
    MissingTensor {
        /// The calling rank, the root.
        rank: Rank,
    },
    /// A tensor where one is to be received.
    #[error(
        "broadcast on rank {rank} was given a tensor; only the root, group rank {root}, passes one"
    )]
    UnexpectedTensor {
        /// The calling rank.
        rank: Rank,
        /// The group rank of the root.
        root: Rank,
    },
    /// A group without ranks.
    #[error("a group needs at least one rank; the list of members is empty")]
    EmptyGroup,
    /// A rank that is listed twice.
    #[error(
        "the group {} lists rank {rank} more than once; members must be distinct",
        spaced(members)
    )]
    DuplicateMember {
        /// The rank.
        rank: Rank,
        /// The list.
        members: Vec<Rank>,
    },
    /// A rank that does not exist.
    #[error(
        "the group {} lists rank {rank}; the world has {world_size} ranks, counted from 0",
        spaced(members)
    )]
    UnknownMember {
        /// The rank.
        rank: Rank,
        /// The list.
        members: Vec<Rank>,
        /// The number of ranks.
        world_size: usize,
    },
    /// A group asked for by a rank outside it.
    #[error(
        "rank {rank} asked for the group {}, which it is no member of; only members may use a group",
        spaced(members)
    )]
    NotAMember {
        /// The calling rank.
        rank: Rank,
        /// The list.
        members: Vec<Rank>,
    },
    /// A tensor does not fit where it is moved to.
    #[error("a copy between device and host on rank {rank}: {error}")]
    HostCopy {
        /// The rank.
        rank: Rank,
        /// The error of the device or the host.
        error: TensorError,
    },
    /// The result does not fit on the device.
    #[error("{call} on rank {rank}: {error}")]
    Device {
        /// The calling rank.
        rank: Rank,
        /// The collective.
        call: Call,
        /// The device's error.
        error: TensorError,
    },
}

fn waiting_for_nobody(ranks: &[Rank]) -> String {
    format!("{} {} for nobody", named(ranks), wait_or_waits(ranks))
}
