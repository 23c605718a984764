//! Calls: what the members of a group must agree on.

use std::fmt;

use lengthwise_core::Rank;

use crate::ReduceOp;

/// A collective, with everything that must be equal on all members of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// [`crate::Communicator::all_to_all_v`]; shapes may all differ.
    AllToAllV,
    /// [`crate::Communicator::all_gather_v`], started or waited for at once; rows may differ.
    AllGatherV {
        /// Columns of every piece.
        cols: usize,
    },
    /// [`crate::Communicator::reduce_scatter_v`].
    ReduceScatterV {
        /// Rows each member receives; their sum is that of every tensor.
        row_counts: Vec<usize>,
        /// Columns of every tensor.
        cols: usize,
    },
    /// [`crate::Communicator::all_reduce`].
    AllReduce {
        /// Rows of every tensor.
        rows: usize,
        /// Columns of every tensor.
        cols: usize,
    },
    /// [`crate::Communicator::all_reduce_values`].
    AllReduceValues {
        /// The operation that makes one value of several.
        op: ReduceOp,
        /// The number of elements of every member.
        num_values: usize,
    },
    /// [`crate::Communicator::broadcast`].
    Broadcast {
        /// Group rank of the sender.
        root: Rank,
    },
    /// [`crate::Communicator::barrier`].
    Barrier,
}

impl Call {
    /// The one member that is waited for, where not all of them are.
    pub(crate) fn only_sender(&self) -> Option<usize> {
        match self {
            Call::Broadcast { root } => Some(root.index()),
            _ => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::AllToAllV => f.write_str("all_to_all_v"),
            Call::AllGatherV { cols } => write!(f, "all_gather_v of {cols} columns"),
            Call::ReduceScatterV { row_counts, cols } => write!(
                f,
                "reduce_scatter_v of {cols} columns to row counts {}",
                spaced(row_counts)
            ),
            Call::AllReduce { rows, cols } => write!(f, "all_reduce of {rows} x {cols}"),
            Call::AllReduceValues { op, num_values } => {
                write!(f, "all_reduce_values ({op}) of {num_values} values")
            }
            Call::Broadcast { root } => write!(f, "broadcast from group rank {root}"),
            Call::Barrier => f.write_str("barrier"),
        }
    }
}

/// `[4 2 1]`, as plans are printed.
pub(crate) fn spaced<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    format!("[{}]", items.join(" "))
}
