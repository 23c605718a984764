//! The outcome of a simulated step.

use lengthwise_core::{ActivityClass, Bytes, Seconds};
use lengthwise_network::LinkPlace;

/// A simulated step.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedStep {
    /// From its beginning to its end.
    pub step: Seconds,
    /// Its micro-batches in order; what is left of the step is the optimiser's.
    pub micro_batches: Vec<SimulatedMicroBatch>,
    /// Every rank's time, which adds up to the step, and memory.
    pub ranks: Vec<SimulatedRank>,
    /// Every link; none where costs are as measured.
    pub links: Vec<SimulatedLink>,
    /// State changes that were simulated: stretches of work and waits that ended, transfers that started, flowed, ended.
    pub num_events: u64,
}

/// A simulated micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedMicroBatch {
    /// When the one before had ended on all ranks.
    pub start: Seconds,
    /// From then until it had ended on all ranks itself.
    pub makespan: Seconds,
    /// The time of all ranks together, by use.
    pub usage: Usage,
}

/// A rank in a simulated step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedRank {
    /// Its time, by use.
    pub usage: Usage,
    /// The most that its device holds.
    pub peak_memory: Bytes,
    /// The most that it holds on its host.
    pub peak_host_memory: Bytes,
}

/// Device time, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Computing.
    pub compute: Seconds,
    /// Fixed costs of micro-batches.
    pub overhead: Seconds,
    /// Waiting for what is on its way.
    pub exposed_communication: Seconds,
    /// Waiting for other ranks.
    pub idle: Seconds,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> Seconds {
        self.busy() + self.idle
    }

    /// All but waiting for other ranks.
    pub fn busy(&self) -> Seconds {
        self.compute + self.overhead + self.exposed_communication
    }

    /// The part of the total that `time` is; 0 of nothing.
    pub fn share(&self, time: Seconds) -> f64 {
        let total = self.total();
        if total > Seconds::ZERO {
            time / total
        } else {
            0.0
        }
    }

    pub(crate) fn add(&mut self, class: ActivityClass, time: Seconds) {
        match class {
            ActivityClass::Compute => self.compute += time,
            ActivityClass::Overhead => self.overhead += time,
            ActivityClass::ExposedCommunication => self.exposed_communication += time,
            ActivityClass::Idle => self.idle += time,
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.compute += other.compute;
        self.overhead += other.overhead;
        self.exposed_communication += other.exposed_communication;
        self.idle += other.idle;
    }
}

/// A link in a simulated step. Figures are those of one direction; the other's are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedLink {
    /// Where it is.
    pub place: LinkPlace,
    /// Its bandwidth in bytes a second.
    pub bandwidth_bytes_per_s: f64,
    /// The bytes that it carried; exchanges that reach only a part of its bandwidth count as if they used all of it.
    pub bytes: f64,
    /// The part of its bandwidth over the whole step that was used.
    pub utilisation: f64,
    /// The most it carried at any time, as a part of its bandwidth.
    pub peak_load: f64,
}
