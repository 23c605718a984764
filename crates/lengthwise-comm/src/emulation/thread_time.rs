//! The processor time of a thread.

use std::time::Duration;

/// The processor time of the calling thread so far; `None` on systems that don't tell.
#[cfg(unix)]
pub fn now() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

/// The processor time of the calling thread so far; `None` on systems that don't tell.
#[cfg(not(unix))]
pub fn now() -> Option<Duration> {
    None
}
