//! A stopwatch for real time and for that of an emulated cluster.

use std::time::Instant;

use lengthwise_comm::Communicator;
use lengthwise_core::Seconds;

/// Started on a rank, right after a barrier.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    really: Instant,
    by_clock: Option<Seconds>,
}

impl Stopwatch {
    /// A stopwatch that starts now.
    pub fn start(world: &impl Communicator) -> Self {
        Stopwatch {
            really: Instant::now(),
            by_clock: world.emulated_time(),
        }
    }

    /// The time passed by the rank's clock; `None` where no cluster is emulated.
    pub fn emulated(&self, world: &impl Communicator) -> Option<Seconds> {
        Some(world.emulated_time()? - self.by_clock?)
    }

    /// The time passed by the rank's clock, or really where no cluster is emulated.
    pub fn elapsed(&self, world: &impl Communicator) -> Seconds {
        self.emulated(world).unwrap_or_else(|| self.really())
    }

    /// The time that has really passed.
    pub fn really(&self) -> Seconds {
        self.really.elapsed().into()
    }
}
