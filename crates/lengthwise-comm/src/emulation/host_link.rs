//! The link of one emulated device to its host.

use std::time::Duration;

use lengthwise_cost::Link;

/// The link of a device to its host: in each direction, copies follow each other.
#[derive(Debug)]
pub(super) struct HostLink {
    link: Link,
    /// The ends of the last copies, to the host and back.
    last: [CopyEnd; 2],
}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostDirection {
    ToHost,
    FromHost,
}

/// When a copy ends, by the clock of its rank and really, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CopyEnd {
    pub by_clock: f64,
    pub really: f64,
}

impl HostLink {
    pub fn new(link: Link) -> Self {
        HostLink {
            link,
            last: [CopyEnd::default(); 2],
        }
    }

    /// Begins a copy at `now`: when the rank's clock and real time show that. It starts when the link is free and the clock's
    /// moment has really come.
    pub fn begin(&mut self, direction: HostDirection, bytes: u64, now: CopyEnd) -> CopyEnd {
        let last = &mut self.last[direction as usize];
        let takes = self.link.latency().get() + bytes as f64 / self.link.bandwidth_bytes_per_s();
        *last = CopyEnd {
            by_clock: now.by_clock.max(last.by_clock) + takes,
            really: now.really.max(now.by_clock).max(last.really) + takes,
        };
        *last
    }
}

/// The time from `now` until `then`; none where that is past.
pub(super) fn until(then: f64, now: f64) -> Duration {
    Duration::try_from_secs_f64(then - now).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::Seconds;

    const START: CopyEnd = CopyEnd {
        by_clock: 1.0,
        really: 1.0,
    };

    fn link() -> HostLink {
        HostLink::new(Link::new(10.0, Seconds::new(0.5).unwrap()).unwrap())
    }

    fn at(by_clock: f64, really: f64) -> CopyEnd {
        CopyEnd { by_clock, really }
    }

    #[test]
    fn copies_of_one_direction_follow_each_other() {
        let mut link = link();
        assert_eq!(link.begin(HostDirection::ToHost, 20, START), at(3.5, 3.5));
        assert_eq!(link.begin(HostDirection::ToHost, 10, START), at(5.0, 5.0));
        assert_eq!(link.begin(HostDirection::FromHost, 0, START), at(1.5, 1.5));
        assert_eq!(
            link.begin(HostDirection::ToHost, 5, at(9.0, 9.0)),
            at(10.0, 10.0)
        );
    }

    #[test]
    fn a_late_rank_delays_its_copy_but_not_its_clock() {
        let late = at(1.0, 4.0);
        assert_eq!(link().begin(HostDirection::ToHost, 10, late), at(2.5, 5.5));
        let early = at(4.0, 1.0);
        assert_eq!(link().begin(HostDirection::ToHost, 10, early), at(5.5, 5.5));
    }
}
