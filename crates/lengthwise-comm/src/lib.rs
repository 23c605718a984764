//! Collectives among the ranks of a group, over tensors of the ranks' own backends.
//!
//! ```text
//!  run_ranks      rank 0         rank 1         rank 2         rank 3       one thread and one device each
//!                   |              |              |              |
//!  world            +--------------+- all_reduce -+--------------+          every rank
//!  groups           +- all_to_all -+              +- all_gather -+          disjoint, overlapping in time
//! ```
//!
//! A [`Communicator`] is one rank's end of a group. [`run_ranks`] runs ranks as threads of this process;
//! they exchange handles of immutable tensors, so nothing is serialised and most of it is not copied
//! ([`ThreadCommunicator`]). A rank that fails ends the calls of all others with
//! [`CommError::PeerFailed`], and `run_ranks` returns the failure it began with. Ranks that wait
//! for each other in different calls are found out at once, with who waits for whom ([`CommError::Deadlock`]).
//!
//! [`run_ranks_with`] makes the same threads emulate a described cluster, on virtual clocks ([`Emulation`]).
//!
//! ```
//! use lengthwise_comm::{CommError, Communicator, Pending, run_ranks};
//! use lengthwise_core::{Bytes, Rank};
//! use lengthwise_tensor::{Backend, CpuBackend, Tensor};
//!
//! let devices = (0..4).map(|_| CpuBackend::new(Bytes::from_mib(1))).collect();
//! let rows = run_ranks(devices, |world| {
//!     // Each rank's shard of a parameter, gathered while something else is done.
//!     let shard = world.backend().zeros(world.rank().index(), 16).expect("memory enough");
//!     let parameter = world.start_all_gather_v(shard)?;
//!
//!     // Ranks 0 and 2 share a sequence; the others need not know.
//!     if world.rank().0 % 2 == 0 {
//!         let pair = world.group(&[Rank(0), Rank(2)])?;
//!         pair.barrier()?;
//!     }
//!     Ok::<_, CommError>(parameter.wait()?.rows())
//! })?;
//! assert_eq!(rows, [6, 6, 6, 6]);
//! # Ok::<(), lengthwise_comm::RankFailure<CommError>>(())
//! ```

#![forbid(unsafe_code)]

mod call;
mod communicator;
mod emulation;
mod error;
mod failure;
mod host_copy;
mod registry;
mod rendezvous;
mod run_ranks;
mod statistics;
mod thread;
mod wait;

pub use call::Call;
pub use communicator::{Communicator, Pending, ReduceOp};
pub use emulation::{Emulation, EmulationError};
pub use error::CommError;
pub use host_copy::{ThreadPendingFromHost, ThreadPendingToHost};
pub use run_ranks::{
    FailureCause, RankFailure, WorldOptions, panic_text, run_ranks, run_ranks_with,
};
pub use statistics::Statistics;
pub use thread::{ThreadCommunicator, ThreadPendingExchange, ThreadPendingGather};
pub use wait::Wait;
