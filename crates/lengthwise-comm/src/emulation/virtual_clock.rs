//! The virtual clock of one rank.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lengthwise_core::{Rank, Seconds};

use super::host_link::HostLink;
use super::{CopyEnd, EmulatedCluster, HostDirection, Transfer, thread_time};
use crate::CommError;
use crate::failure::Fate;
use crate::rendezvous::lock;

/// The virtual clock of a rank: it advances by processor time as the rank computes, and by the links' time as it waits. Used
/// by the rank's own thread alone.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    emulated: Arc<EmulatedCluster>,
    rank: Rank,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The time on the clock.
    now: f64,
    /// The thread's processor time when it last began to compute.
    began: Duration,
    has_turn: bool,
    /// The link between the device and its host, where copies take time.
    host_link: Option<HostLink>,
}

impl VirtualClock {
    /// The clock of the calling thread, which starts to compute as soon as it is its turn.
    pub fn start(emulated: Arc<EmulatedCluster>, rank: Rank) -> Arc<Self> {
        emulated.core_scheduler.take(rank.index(), 0.0);
        let host_link = emulated.host_link().map(HostLink::new);
        Arc::new(VirtualClock {
            emulated,
            rank,
            state: Mutex::new(State {
                now: 0.0,
                began: thread_time::now().unwrap_or_default(),
                has_turn: true,
                host_link,
            }),
        })
    }

    /// The rank has computed up to here. Until [`VirtualClock::go_on`], nothing that its thread does takes time.
    pub fn stop(&self) {
        lock(&self.state).compute(self.emulated.core_fraction(self.rank));
    }

    /// The rank computes from here on.
    pub fn go_on(&self) {
        lock(&self.state).began = thread_time::now().unwrap_or_default();
    }

    /// The time on the clock, at a call.
    pub fn arrival(&self) -> f64 {
        lock(&self.state).now
    }

    /// The time on the clock, while computing.
    pub fn now(&self) -> Seconds {
        let mut state = lock(&self.state);
        state.compute(self.emulated.core_fraction(self.rank));
        Seconds::new(state.now).unwrap_or(Seconds::ZERO)
    }

    /// Lets others compute while this rank waits in `wait`.
    pub fn while_waiting<X>(&self, wait: impl FnOnce() -> X) -> X {
        self.end_turn();
        let result = wait();
        let now = self.arrival();
        self.emulated.core_scheduler.take(self.rank.index(), now);
        lock(&self.state).has_turn = true;
        result
    }

    /// Waits for the end of a transfer, inside [`VirtualClock::while_waiting`]; returns how long the rank has waited, by its
    /// clock, for other members to come.
    pub fn wait(&self, transfer: &Transfer, fate: &Fate) -> Result<Duration, CommError> {
        let end = self.emulated.wait(transfer, fate)?;
        let mut state = lock(&self.state);
        let waited = transfer.start_by_clocks().min(end) - state.now;
        state.now = state.now.max(end);
        Ok(Duration::try_from_secs_f64(waited).unwrap_or_default())
    }

    /// Begins to copy between the device and its host, at a call.
    pub fn begin_copy(&self, direction: HostDirection, bytes: u64) -> CopyEnd {
        let mut state = lock(&self.state);
        let now = CopyEnd {
            by_clock: state.now,
            really: self.emulated.now(),
        };
        let link = state.host_link.as_mut();
        link.map_or(now, |link| link.begin(direction, bytes, now))
    }

    /// Waits for the end of a copy, inside [`VirtualClock::while_waiting`].
    pub fn wait_for_copy(&self, end: CopyEnd, fate: &Fate) -> Result<(), CommError> {
        if end.by_clock > self.arrival() {
            self.emulated.wait_until(end.really, fate)?;
            let mut state = lock(&self.state);
            state.now = state.now.max(end.by_clock);
        }
        Ok(())
    }

    /// Gives the turn to compute back, at the latest when the rank has finished.
    pub fn end_turn(&self) {
        if std::mem::take(&mut lock(&self.state).has_turn) {
            self.emulated.core_scheduler.give_back();
        }
    }
}

impl State {
    fn compute(&mut self, core_fraction: f64) {
        let spent = thread_time::now().unwrap_or_default();
        self.now += spent.saturating_sub(self.began).as_secs_f64() / core_fraction;
        self.began = spent;
    }
}
