//! How long a rank was busy with what in a micro-batch.

use std::time::{Duration, Instant};

use super::stage::Stage;

/// What a rank's time in a micro-batch went into, by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MicroBatchTime {
    /// From its first gather to its last scatter.
    pub whole: Duration,
    /// The layers' forward, exchanges included.
    pub forward: Duration,
    /// The layers' backward, with the forward that is run again, exchanges included.
    pub backward: Duration,
    /// Embedding, output and loss, forward and backward.
    pub ends: Duration,
    /// Waiting for parameters.
    pub gather: Duration,
    /// Handing gradients to their shards, waiting for other groups included.
    pub scatter: Duration,
}

impl MicroBatchTime {
    /// Working in its group, without waiting for other groups.
    pub fn worked(&self) -> Duration {
        self.forward + self.backward + self.ends
    }

    /// Adds the time since `start` to the stage's.
    pub(super) fn add(&mut self, stage: Stage, start: Instant) {
        let part = match stage {
            Stage::Forward(_) => &mut self.forward,
            Stage::Backward(_) => &mut self.backward,
            Stage::Embedding | Stage::Output | Stage::EmbeddingBackward => &mut self.ends,
        };
        *part += start.elapsed();
    }
}
