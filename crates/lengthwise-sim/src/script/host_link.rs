//! The link of a device to its host's memory.

use lengthwise_cost::Link;

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Out,
    Back,
}

/// The link of a device to its host's memory: both ways at once, and each way one copy after the other.
#[derive(Clone, Debug)]
pub struct HostLink {
    link: Link,
    /// When all copies out, and all back, will have ended.
    free_at: [f64; 2],
}

impl HostLink {
    /// A link that nothing goes over yet.
    pub fn new(link: Link) -> Self {
        HostLink {
            link,
            free_at: [0.0; 2],
        }
    }

    /// When a copy ends that is asked for now.
    pub fn end(&mut self, direction: Direction, bytes: f64, now: f64) -> f64 {
        let free_at = &mut self.free_at[usize::from(direction == Direction::Back)];
        let takes = self.link.latency().get() + bytes / self.link.bandwidth_bytes_per_s();
        *free_at = free_at.max(now) + takes;
        *free_at
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Seconds;

    use super::*;

    #[test]
    fn copies_one_way_follow_each_other_and_do_not_wait_for_those_the_other_way() {
        let mut link = HostLink::new(Link::new(100.0, Seconds::new(1.0).unwrap()).unwrap());
        assert_eq!(link.end(Direction::Out, 200.0, 0.0), 3.0);
        assert_eq!(link.end(Direction::Out, 100.0, 1.0), 5.0);
        assert_eq!(link.end(Direction::Back, 100.0, 1.0), 3.0);
        assert_eq!(link.end(Direction::Out, 100.0, 9.0), 11.0);
    }
}
