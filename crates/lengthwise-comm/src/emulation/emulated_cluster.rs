//! The devices and links of an emulated cluster: when calls of a world end.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lengthwise_core::{Cluster, Rank};
use lengthwise_cost::Link;
use lengthwise_network::{Crossing, Traffic, Wiring};

use super::Emulation;
use super::core_scheduler::CoreScheduler;
use super::host_link::until;
use super::moved::{self, Moved};
use crate::failure::Fate;
use crate::rendezvous::lock;
use crate::{Call, CommError};

/// The state that all ranks of a world share: links with the transfers on them, and turns on this machine's cores. Times are
/// seconds since it was made.
#[derive(Debug)]
pub(crate) struct EmulatedCluster {
    cluster: Cluster,
    wiring: Wiring,
    host_link: Option<Link>,
    /// The part of a core that each rank's device stands for.
    core_fractions: Vec<f64>,
    pub(super) core_scheduler: CoreScheduler,
    epoch: Instant,
    under_way: Mutex<UnderWay>,
    changed: Condvar,
}

/// Transfers that have not ended.
#[derive(Debug)]
struct UnderWay {
    traffic: Traffic<u64>,
    transfers: HashMap<u64, Arc<Transfer>>,
    num_transfers: u64,
}

/// How those calls of a group go that always go the same way.
#[derive(Clone, Debug)]
pub(crate) struct GroupPaths {
    /// For each byte that each member receives.
    ring: Crossing,
}

/// The bytes of a call, on their way.
#[derive(Debug)]
pub(crate) struct Transfer {
    times: TransferTimes,
    /// When it really ended.
    end: OnceLock<f64>,
}

/// When a transfer starts, by the clocks of its members and really.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TransferTimes {
    by_clocks: f64,
    really: f64,
}

impl TransferTimes {
    /// Those of a call to whose last member its clock shows `arrival` and to which all have really come by `now`.
    fn new(call: &Call, arrival: f64, now: f64) -> Self {
        let really = arrival.max(now);
        let by_clocks = match call {
            // Where clocks are set.
            Call::Barrier => really,
            _ => arrival,
        };
        TransferTimes { by_clocks, really }
    }

    /// The time on a member's clock once the transfer has really ended at `end`.
    fn end_by_clocks(self, end: f64) -> f64 {
        self.by_clocks + (end - self.really)
    }
}

impl Transfer {
    /// When the last member came to it, by its clock.
    pub fn start_by_clocks(&self) -> f64 {
        self.times.by_clocks
    }
}

impl EmulatedCluster {
    pub fn new(emulation: &Emulation) -> Self {
        let cluster = emulation.cluster().clone();
        let mut traffic = Traffic::new();
        let wiring = Wiring::new(&cluster, emulation.links(), traffic.network_mut());
        let devices = cluster.devices().iter();
        let core_fractions: Vec<f64> = devices
            .map(|device| device.speed().get() * emulation.core_fraction())
            .collect();
        EmulatedCluster {
            core_scheduler: CoreScheduler::new(emulation.num_cores(), core_fractions.len()),
            cluster,
            wiring,
            host_link: emulation.host_link(),
            core_fractions,
            epoch: Instant::now(),
            under_way: Mutex::new(UnderWay {
                traffic,
                transfers: HashMap::new(),
                num_transfers: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// The part of a core that the device of `rank` stands for.
    pub fn core_fraction(&self, rank: Rank) -> f64 {
        self.core_fractions[rank.index()]
    }

    /// The link between each device and its host.
    pub fn host_link(&self) -> Option<Link> {
        self.host_link
    }

    /// How the calls of a group of these members go.
    pub fn paths(&self, members: &[Rank]) -> GroupPaths {
        GroupPaths {
            ring: self.wiring.ring(members, &self.cluster),
        }
    }

    /// Begins the transfer of a call to which all `members` have come, the last of them at `arrival` by its clock.
    pub fn begin(
        &self,
        call: &Call,
        members: &[Rank],
        paths: &GroupPaths,
        arrival: f64,
        moved: &[Moved],
    ) -> Arc<Transfer> {
        let crossing = moved::crossing(moved, members, &paths.ring, &self.cluster, &self.wiring);
        let mut under_way = lock(&self.under_way);
        let now = self.now();
        under_way.advance(now);
        let transfer = Arc::new(Transfer {
            times: TransferTimes::new(call, arrival, now),
            end: OnceLock::new(),
        });
        let id = under_way.num_transfers;
        under_way.num_transfers += 1;
        under_way.transfers.insert(id, Arc::clone(&transfer));
        let start = transfer.times.really;
        let path = crossing.path_once(under_way.traffic.network_mut());
        under_way.traffic.begin(start, path, 1.0, id);
        // Shares of links change, and with them the ends that others wait for.
        self.changed.notify_all();
        transfer
    }

    /// Waits until a transfer has ended; returns what clocks show then.
    pub fn wait(&self, transfer: &Transfer, fate: &Fate) -> Result<f64, CommError> {
        let mut under_way = lock(&self.under_way);
        loop {
            fate.check()?;
            let now = self.now();
            under_way.advance(now);
            if let Some(&end) = transfer.end.get() {
                return Ok(transfer.times.end_by_clocks(end));
            }
            // A transfer that has not ended has an event to come.
            let next = under_way.traffic.next_event().unwrap_or(now);
            under_way = self.sleep(under_way, until(next, now));
        }
    }

    /// Waits until a moment has really come.
    pub fn wait_until(&self, moment: f64, fate: &Fate) -> Result<(), CommError> {
        let mut under_way = lock(&self.under_way);
        loop {
            fate.check()?;
            let now = self.now();
            if now >= moment {
                return Ok(());
            }
            under_way = self.sleep(under_way, until(moment, now));
        }
    }

    /// Waits for a while, or until something has changed.
    fn sleep<'a>(
        &self,
        under_way: MutexGuard<'a, UnderWay>,
        longest: Duration,
    ) -> MutexGuard<'a, UnderWay> {
        let woken = self.changed.wait_timeout(under_way, longest);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets everyone who waits look at the [`Fate`] again.
    pub fn wake(&self) {
        // Whoever has looked already holds this lock until it really waits.
        drop(lock(&self.under_way));
        self.changed.notify_all();
    }

    /// The time that has really passed.
    pub fn now(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64()
    }
}

impl UnderWay {
    fn advance(&mut self, now: f64) {
        for (id, end) in self.traffic.advance(now) {
            if let Some(transfer) = self.transfers.remove(&id) {
                // Each transfer ends once.
                let _ = transfer.end.set(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_early_start_when_their_clocks_say() {
        let times = TransferTimes::new(&Call::AllToAllV, 5.0, 3.0);
        assert_eq!((times.by_clocks, times.really), (5.0, 5.0));
        assert_eq!(times.end_by_clocks(5.5), 5.5);
    }

    #[test]
    fn a_late_member_delays_the_transfer_but_not_the_clocks() {
        let times = TransferTimes::new(&Call::AllToAllV, 5.0, 7.0);
        assert_eq!((times.by_clocks, times.really), (5.0, 7.0));
        assert_eq!(times.end_by_clocks(7.5), 5.5);
    }

    #[test]
    fn a_barrier_sets_clocks() {
        let times = TransferTimes::new(&Call::Barrier, 5.0, 7.0);
        assert_eq!(times.end_by_clocks(7.5), 7.5);
    }
}
