//! The clock that time is measured by.

use std::time::{Duration, Instant};

/// The clock that time is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The time that passes.
    #[default]
    Wall,
    /// The processor time that the whole process takes, divided by the cores that its ranks share: what passes on a
    /// machine that has nothing else to do.
    Processor {
        /// Cores that the ranks share, all of which they keep busy.
        num_cores: u32,
    },
}

/// A moment on a clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: Instant,
    processor: Option<Duration>,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Moment {
            wall: Instant::now(),
            processor: processor_time(),
        }
    }
}

impl Clock {
    /// Processor time where the system tells it.
    pub fn processor(num_cores: u32) -> Option<Self> {
        processor_time().map(|_| Clock::Processor { num_cores })
    }

    /// Seconds from a moment to now.
    pub fn seconds_since(self, start: Moment) -> f64 {
        match (self, start.processor, processor_time()) {
            (Clock::Processor { num_cores }, Some(start), Some(now)) => {
                now.saturating_sub(start).as_secs_f64() / f64::from(num_cores)
            }
            _ => start.wall.elapsed().as_secs_f64(),
        }
    }
}

/// The processor time of the process so far; `None` on systems that don't tell.
#[cfg(unix)]
fn processor_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

#[cfg(not(unix))]
fn processor_time() -> Option<Duration> {
    None
}
