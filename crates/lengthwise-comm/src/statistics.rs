//! Sums over a rank's communication.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lengthwise_core::{Bytes, Seconds};

/// Calls, bytes and waiting of one rank so far on all its groups, for logs and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Distinct groups created so far by any rank of this process, that of all ranks included.
    pub num_groups: usize,
    /// Collectives this rank has called.
    pub num_calls: u64,
    /// Bytes this rank has offered to others, once for each receiver.
    pub bytes_sent: Bytes,
    /// Time this rank has waited for others, by its clock where a cluster is emulated.
    pub measured_wait: Seconds,
}

impl Statistics {
    /// The increase since `earlier`.
    pub fn since(&self, earlier: &Statistics) -> Statistics {
        Statistics {
            num_groups: self.num_groups.saturating_sub(earlier.num_groups),
            num_calls: self.num_calls.saturating_sub(earlier.num_calls),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            measured_wait: self.measured_wait - earlier.measured_wait,
        }
    }
}

/// The running counts of one rank, shared by all its communicators.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    num_calls: AtomicU64,
    bytes_sent: AtomicU64,
    waited_ns: AtomicU64,
}

impl Counters {
    pub fn count_call(&self) {
        self.num_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn count_wait(&self, waited: Duration) {
        let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.waited_ns.fetch_add(waited_ns, Ordering::Relaxed);
    }

    pub fn statistics(&self, num_groups: usize) -> Statistics {
        Statistics {
            num_groups,
            num_calls: self.num_calls.load(Ordering::Relaxed),
            bytes_sent: Bytes(self.bytes_sent.load(Ordering::Relaxed)),
            measured_wait: Duration::from_nanos(self.waited_ns.load(Ordering::Relaxed)).into(),
        }
    }
}
