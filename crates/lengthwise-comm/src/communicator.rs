//! The communicator: collectives of ranks.

use std::fmt;

use lengthwise_core::{Rank, Seconds};
use lengthwise_tensor::Backend;

use crate::{CommError, Statistics};

/// One rank's end of a group of ranks, and the collectives among them.
///
/// Every member of a group makes the same calls in the same order; what the members must agree on is
/// part of [`crate::Call`], and a disagreement is an error. Groups are independent of each other: a
/// rank outside a group takes no part in its calls. Clones stand for the same rank in the same group, and
/// a rank waits in one call at a time. Ranks that wait for each other in different calls are an error too,
/// which says who waits for whom.
///
/// Tensors that a call returns live on this rank's device, unless it says otherwise. **An error of a
/// collective leaves the ranks out of step and therefore fails all of them**: from then on every call
/// of every rank returns [`CommError::PeerFailed`].
pub trait Communicator: Clone + Send + 'static {
    /// The device of this rank.
    type Backend: Backend;
    /// An all-gather in flight, from [`Communicator::start_all_gather_v`].
    type PendingGather: Pending<Output = <Self::Backend as Backend>::Tensor>;
    /// An all-to-all in flight, from [`Communicator::start_all_to_all_v`].
    type PendingExchange: Pending<Output = Vec<<Self::Backend as Backend>::Tensor>>;
    /// A copy in flight, from [`Communicator::start_copy_to_host`].
    type PendingToHost: Pending<Output = <Self::Backend as Backend>::HostTensor>;
    /// A copy in flight, from [`Communicator::start_copy_from_host`].
    type PendingFromHost: Pending<Output = <Self::Backend as Backend>::Tensor>;

    /// The device of this rank.
    fn backend(&self) -> &Self::Backend;
    /// The rank of this member inside the group: its position in [`Communicator::members`].
    fn rank(&self) -> Rank;
    /// The number of members of the group.
    fn size(&self) -> usize;
    /// The global ranks of the members, by group rank: in increasing order.
    fn members(&self) -> &[Rank];
    /// The number of collectives this rank has called on this group so far.
    fn num_calls(&self) -> u64;
    /// Calls, bytes and waiting of this rank so far on all its groups.
    fn statistics(&self) -> Statistics;

    /// What this rank's clock shows, what it has computed included; `None` where no cluster is emulated, and time is
    /// what really passes.
    ///
    /// On a machine that keeps up, the two are the same at the end of every call.
    fn emulated_time(&self) -> Option<Seconds> {
        None
    }

    /// The group of the ranks `members`, given as global ranks of the world, in any order.
    ///
    /// It is created when a set of members is first asked for and found again afterwards. No exchange takes
    /// place. Fails for an empty list, a rank twice, a rank outside the world, and where this rank is missing;
    /// such an error does not fail the other ranks.
    fn group(&self, members: &[Rank]) -> Result<Self, CommError>;

    /// Sends `send[r]` to group rank `r`; item `s` of the result came from group rank `s`.
    ///
    /// Shapes may all differ, zero rows and zero columns included. A received tensor may be the sender's
    /// storage: it then stays counted on the sender's device for as long as it is kept.
    fn all_to_all_v(&self, send: Vec<TensorOf<Self>>) -> Result<Vec<TensorOf<Self>>, CommError> {
        self.start_all_to_all_v(send)?.wait()
    }

    /// Sends what [`Communicator::all_to_all_v`] does and returns at once; [`Pending::wait`] gives what is received.
    ///
    /// Any number of exchanges and gathers may be pending, among other calls, and be waited for in any order or dropped.
    fn start_all_to_all_v(
        &self,
        send: Vec<TensorOf<Self>>,
    ) -> Result<Self::PendingExchange, CommError>;

    /// Offers `piece` to the group and returns at once; [`Pending::wait`] gives what
    /// [`Communicator::all_gather_v`] would have.
    ///
    /// Any number of gathers may be pending, among other calls, and be waited for in any order or dropped.
    fn start_all_gather_v(&self, piece: TensorOf<Self>) -> Result<Self::PendingGather, CommError>;

    /// The rows of all members' pieces, one after the other by group rank. Columns must be equal.
    fn all_gather_v(&self, piece: TensorOf<Self>) -> Result<TensorOf<Self>, CommError> {
        self.start_all_gather_v(piece)?.wait()
    }

    /// This member's rows of the sum of all members' `full`: group rank `r` gets the `row_counts[r]` rows
    /// that follow those of the ranks before it.
    ///
    /// `full` has the same shape and `row_counts` the same values on every member. Sums are taken in the order
    /// of group ranks, so that results repeat bit by bit.
    fn reduce_scatter_v(
        &self,
        full: TensorOf<Self>,
        row_counts: &[usize],
    ) -> Result<TensorOf<Self>, CommError>;

    /// The sum of all members' tensors of equal shape, in the order of group ranks: the same bits on every member.
    fn all_reduce(&self, tensor: TensorOf<Self>) -> Result<TensorOf<Self>, CommError>;

    /// Reduces values of the host element by element, in the order of group ranks: losses, norms, timings.
    fn all_reduce_values(&self, values: &[f64], op: ReduceOp) -> Result<Vec<f64>, CommError>;

    /// The tensor of group rank `root`, which alone passes `Some`.
    fn broadcast(
        &self,
        root: Rank,
        tensor: Option<TensorOf<Self>>,
    ) -> Result<TensorOf<Self>, CommError>;

    /// Returns when every member has called it.
    fn barrier(&self) -> Result<(), CommError>;

    /// Begins to move `tensor` to the memory of the host and returns at once. No other rank takes part, but all devices of a
    /// node may share that memory.
    ///
    /// The tensor stays on the device until [`Pending::wait`] has returned. Copies in the same direction follow each other.
    fn start_copy_to_host(&self, tensor: TensorOf<Self>) -> Result<Self::PendingToHost, CommError>;

    /// Begins to move what was moved to the host back to the device and returns at once.
    fn start_copy_from_host(
        &self,
        tensor: HostTensorOf<Self>,
    ) -> Result<Self::PendingFromHost, CommError>;
}

/// The tensors a communicator moves.
pub(crate) type TensorOf<C> = <<C as Communicator>::Backend as Backend>::Tensor;

/// A tensor that a communicator moves to and from the host.
pub(crate) type HostTensorOf<C> = <<C as Communicator>::Backend as Backend>::HostTensor;

/// A call or a copy that was started.
pub trait Pending {
    /// What it gives.
    type Output;

    /// Waits for what is still on its way.
    fn wait(self) -> Result<Self::Output, CommError>;
}

/// The operation that makes one value of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The largest; not a number where any of them is not a number, so that no rank's failure gets lost.
    Max,
}

impl ReduceOp {
    pub(crate) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            ReduceOp::Sum => a + b,
            ReduceOp::Max if a.is_nan() || a > b => a,
            ReduceOp::Max => b,
        }
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Max => "max",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_stays_so_in_any_order() {
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            assert!(op.apply(f64::NAN, 1.0).is_nan());
            assert!(op.apply(1.0, f64::NAN).is_nan());
        }
        assert_eq!(ReduceOp::Max.apply(-1.0, -2.0), -1.0);
        assert_eq!(ReduceOp::Max.apply(f64::NEG_INFINITY, -2.0), -2.0);
    }
}
