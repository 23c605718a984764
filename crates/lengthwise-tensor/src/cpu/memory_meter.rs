//! Counts the bytes of one device or host, and keeps what was freed for the next request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lengthwise_core::Bytes;

use super::free_list::FreeList;
use crate::{MemoryUse, TensorError};

/// Counts the bytes of one device or host; clones share the count.
#[derive(Clone, Debug)]
pub(super) struct MemoryMeter(Arc<Counts>);

/// Whose bytes a meter counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Device,
    Host,
}

#[derive(Debug)]
struct Counts {
    owner: Owner,
    held: AtomicU64,
    peak: AtomicU64,
    /// The peak over all time.
    highest: AtomicU64,
    budget: u64,
    free_list: Mutex<FreeList>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    meter: MemoryMeter,
    bytes: u64,
}

impl MemoryMeter {
    pub(super) fn new(owner: Owner, budget: Bytes) -> Self {
        Self(Arc::new(Counts {
            owner,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            highest: AtomicU64::new(0),
            budget: budget.0,
            free_list: Mutex::default(),
        }))
    }

    /// Holds `request` bytes, or refuses where that would pass the budget.
    pub(super) fn reserve(
        &self,
        operation: &'static str,
        request: Bytes,
    ) -> Result<Reservation, TensorError> {
        let Counts {
            held,
            peak,
            highest,
            budget,
            ..
        } = &*self.0;
        // Tensors may be dropped by other ranks' threads, so the count is claimed in one atomic step.
        let claimed = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(request.0).filter(|&sum| sum <= *budget)
        });
        match claimed {
            Ok(before) => {
                peak.fetch_max(before + request.0, Ordering::Relaxed);
                highest.fetch_max(before + request.0, Ordering::Relaxed);
                Ok(Reservation {
                    meter: self.clone(),
                    bytes: request.0,
                })
            }
            Err(held) => Err(self.refusal(operation, request, Bytes(held))),
        }
    }

    fn refusal(&self, operation: &'static str, request: Bytes, held: Bytes) -> TensorError {
        let budget = Bytes(self.0.budget);
        match self.0.owner {
            Owner::Device => TensorError::OutOfMemory {
                operation,
                request,
                held,
                budget,
            },
            Owner::Host => TensorError::OutOfHostMemory {
                request,
                held,
                budget,
            },
        }
    }

    /// Freed memory for `len` elements, which hold what they held; their bytes are reserved already.
    ///
    /// Where there is none that fits, as much is given back to the system as keeps held and free bytes together
    /// at most at the highest peak: keeping freed memory never makes the process larger than its tensors made it.
    pub(super) fn reuse(&self, len: usize) -> Option<Vec<f32>> {
        let Counts {
            held,
            highest,
            free_list,
            ..
        } = &*self.0;
        let mut free_list = free_list.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = free_list.take(len);
        let highest = highest.load(Ordering::Relaxed);
        free_list.shrink_to(highest.saturating_sub(held.load(Ordering::Relaxed)));
        reused
    }

    /// Keeps freed memory for [`MemoryMeter::reuse`].
    pub(super) fn recycle(&self, freed: Vec<f32>) {
        let free_list = &self.0.free_list;
        let mut free_list = free_list.lock().unwrap_or_else(PoisonError::into_inner);
        free_list.put(freed);
    }

    pub(super) fn memory(&self) -> MemoryUse {
        MemoryUse {
            held: Bytes(self.0.held.load(Ordering::Relaxed)),
            peak: Bytes(self.0.peak.load(Ordering::Relaxed)),
            budget: Bytes(self.0.budget),
        }
    }

    pub(super) fn reset_peak(&self) {
        let held = self.0.held.load(Ordering::Relaxed);
        self.0.peak.store(held, Ordering::Relaxed);
    }
}

impl Reservation {
    pub(super) fn meter(&self) -> &MemoryMeter {
        &self.meter
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meter.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_held_until_it_is_dropped() {
        let meter = MemoryMeter::new(Owner::Device, Bytes(100));
        let first = meter.reserve("first", Bytes(60)).unwrap();
        assert_eq!(
            meter.reserve("second", Bytes(41)).unwrap_err(),
            TensorError::OutOfMemory {
                operation: "second",
                request: Bytes(41),
                held: Bytes(60),
                budget: Bytes(100),
            }
        );
        let second = meter.reserve("second", Bytes(40)).unwrap();
        drop(first);
        assert_eq!(meter.memory().held, Bytes(40));
        assert_eq!(meter.memory().peak, Bytes(100));
        meter.reset_peak();
        assert_eq!(meter.memory().peak, Bytes(40));
        drop(second);
        assert_eq!(meter.memory().held, Bytes(0));
    }

    #[test]
    fn a_request_that_overflows_is_refused() {
        let meter = MemoryMeter::new(Owner::Device, Bytes(u64::MAX));
        let _held = meter.reserve("held", Bytes(1)).unwrap();
        assert!(meter.reserve("more", Bytes(u64::MAX)).is_err());
    }
}
