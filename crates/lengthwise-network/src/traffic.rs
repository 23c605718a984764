//! The transfers under way, as time passes from outside.
//!
//! A transfer waits for its latency, then its bytes flow over its route and share links with all else that flows.
//! Advancing the time returns the transfers that have ended until then, at the same moments to the bit as in a simulation.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::{FlowEnd, FlowSpec, Network, Path};

/// Transfers over a network, each of them somebody's.
#[derive(Clone, Debug)]
pub struct Traffic<T> {
    network: Network<T>,
    foreseen: BinaryHeap<Foreseen<T>>,
    num_foreseen: u64,
    /// No event before this time is yet to come.
    now: f64,
}

#[derive(Clone, Copy, Debug)]
enum Event<T> {
    LatencyPassed(FlowSpec, T),
    FlowDone(FlowEnd),
}

#[derive(Clone, Copy, Debug)]
struct Foreseen<T> {
    time: f64,
    order: u64,
    event: Event<T>,
}

impl<T> PartialEq for Foreseen<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Foreseen<T> {}

impl<T> PartialOrd for Foreseen<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The greatest is the next: the earliest, and of those the one foreseen first.
impl<T> Ord for Foreseen<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = other.time.total_cmp(&self.time);
        by_time.then(other.order.cmp(&self.order))
    }
}

impl<T: Copy> Default for Traffic<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Traffic<T> {
    /// No links and nothing under way, at time 0.
    pub fn new() -> Self {
        Traffic {
            network: Network::new(),
            foreseen: BinaryHeap::new(),
            num_foreseen: 0,
            now: 0.0,
        }
    }

    /// The links.
    pub fn network(&self) -> &Network<T> {
        &self.network
    }

    /// The links, to add to them.
    pub fn network_mut(&mut self) -> &mut Network<T> {
        &mut self.network
    }

    /// Begins to move a `volume` over `path` at `start`, or as soon as time has got to, if that is later.
    pub fn begin(&mut self, start: f64, path: Path, volume: f64, owner: T) {
        let flow = FlowSpec {
            volume,
            route: path.route,
        };
        let flows_at = start.max(self.now) + path.latency.get();
        self.foresee(flows_at, Event::LatencyPassed(flow, owner));
    }

    /// When something may happen next that [`Traffic::advance`] would tell or that changes how links are shared.
    pub fn next_event(&self) -> Option<f64> {
        self.foreseen.peek().map(|next| next.time)
    }

    /// Lets time pass up to `to`; says whose transfers have ended, and when.
    pub fn advance(&mut self, to: f64) -> Vec<(T, f64)> {
        let mut ended = Vec::new();
        while let Some(&Foreseen { time, event, .. }) = self.foreseen.peek()
            && time <= to
        {
            self.foreseen.pop();
            self.now = self.now.max(time);
            match event {
                Event::LatencyPassed(flow, owner) if flow.volume > 0.0 => {
                    self.network.begin(time, flow, owner);
                }
                Event::LatencyPassed(_, owner) => ended.push((owner, time)),
                Event::FlowDone(end) => {
                    if let Some(owner) = self.network.end(end) {
                        ended.push((owner, time));
                    }
                }
            }
            // Rates are settled once an instant.
            if self.next_event().is_none_or(|next| next > time) {
                self.settle(time);
            }
        }
        self.now = self.now.max(to);
        ended
    }

    fn settle(&mut self, now: f64) {
        let Traffic {
            network,
            foreseen,
            num_foreseen,
            ..
        } = self;
        network.settle(now, |end, time| {
            foreseen.push(Foreseen {
                time,
                order: *num_foreseen,
                event: Event::FlowDone(end),
            });
            *num_foreseen += 1;
        });
    }

    fn foresee(&mut self, time: f64, event: Event<T>) {
        let order = self.num_foreseen;
        self.foreseen.push(Foreseen { time, order, event });
        self.num_foreseen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::Seconds;

    fn traffic(capacity: f64, latency: f64) -> (Traffic<char>, Path) {
        let mut traffic = Traffic::new();
        let link = traffic.network_mut().add_link(capacity);
        let route = traffic.network_mut().add_route(vec![(link, 1.0)]);
        let latency = Seconds::new(latency).unwrap();
        (traffic, Path { route, latency })
    }

    #[test]
    fn a_transfer_takes_its_latency_and_its_bytes_at_the_links_rate() {
        let (mut traffic, path) = traffic(10.0, 0.5);
        traffic.begin(2.0, path, 40.0, 'a');
        assert_eq!(traffic.advance(6.4), []);
        assert_eq!(traffic.advance(6.5), [('a', 6.5)]);
        assert_eq!(traffic.next_event(), None);
    }

    #[test]
    fn a_transfer_that_joins_later_slows_the_first_down_from_then_on() {
        let (mut traffic, path) = traffic(10.0, 0.0);
        traffic.begin(0.0, path, 40.0, 'a');
        traffic.begin(2.0, path, 40.0, 'b');
        // 20 bytes alone; then 5 bytes a second each until a's other 20 have gone at 6; b's last 20 alone until 8.
        assert_eq!(traffic.advance(100.0), [('a', 6.0), ('b', 8.0)]);
    }

    #[test]
    fn the_same_holds_if_time_passes_in_small_steps_and_the_second_is_not_foreseen() {
        let (mut traffic, path) = traffic(10.0, 0.0);
        traffic.begin(0.0, path, 40.0, 'a');
        assert_eq!(traffic.advance(2.0), []);
        assert_eq!(traffic.next_event(), Some(4.0));
        traffic.begin(2.0, path, 40.0, 'b');
        let mut ended = Vec::new();
        for tenths in 20..=80 {
            ended.extend(traffic.advance(f64::from(tenths) / 10.0));
        }
        assert_eq!(ended, [('a', 6.0), ('b', 8.0)]);
    }

    #[test]
    fn what_begins_in_the_past_begins_now_and_takes_its_full_time() {
        let (mut traffic, path) = traffic(10.0, 1.0);
        assert_eq!(traffic.advance(5.0), []);
        traffic.begin(3.0, path, 20.0, 'a');
        assert_eq!(traffic.advance(9.0), [('a', 8.0)]);
    }

    #[test]
    fn nothing_to_move_takes_the_latency_alone() {
        let (mut traffic, path) = traffic(10.0, 0.25);
        traffic.begin(1.0, path, 0.0, 'a');
        assert_eq!(traffic.advance(2.0), [('a', 1.25)]);
    }
}
