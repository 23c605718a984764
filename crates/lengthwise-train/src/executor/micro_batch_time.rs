//! The parts of a rank's time in a micro-batch.

use lengthwise_core::Seconds;

use super::stage::Stage;

/// The parts of a rank's time in a micro-batch, by its own clock, the device's where one is emulated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MicroBatchTime {
    /// From its first gather to its last scatter.
    pub whole: Seconds,
    /// The layers' forward, exchanges included.
    pub forward: Seconds,
    /// The layers' backward, with the forward that is run again, exchanges included.
    pub backward: Seconds,
    /// Embedding, output and loss, forward and backward.
    pub ends: Seconds,
    /// Waiting for parameters.
    pub gather: Seconds,
    /// Handing gradients to their shards, waiting for other groups included.
    pub scatter: Seconds,
}

impl MicroBatchTime {
    /// Working in its group, without waiting for other groups.
    pub fn worked(&self) -> Seconds {
        self.forward + self.backward + self.ends
    }

    /// Adds time to a stage's.
    pub(super) fn add(&mut self, stage: Stage, elapsed: Seconds) {
        let part = match stage {
            Stage::Forward(_) => &mut self.forward,
            Stage::Backward(_) => &mut self.backward,
            Stage::Embedding | Stage::Output | Stage::EmbeddingBackward => &mut self.ends,
        };
        *part += elapsed;
    }
}
