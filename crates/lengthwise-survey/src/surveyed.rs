//! What a survey is of: devices, groups and a model, as far as they are known without measuring.

use lengthwise_core::{Activations, Bytes, Cluster, Degree, StrategyKind, Tokens};
use lengthwise_cost::{CoreSharing, FittedCosts};

/// What a survey is of.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Where micro-batches run.
    pub cluster: Cluster,
    /// What groups may have, increasing, 1 among them.
    pub degrees: Vec<Degree>,
    /// What is done with activations.
    pub activations: Activations,
    /// No sequence is longer.
    pub context: Tokens,
    /// Query heads, where the rank with the most of them holds its group back.
    pub num_heads: Option<u32>,
    /// How ranks share cores.
    pub sharing: CoreSharing,
    /// How that shows in the measured times.
    pub sharing_by_clock: CoreSharing,
    /// Of the device with the least.
    pub device_memory: Bytes,
    /// What devices hold.
    pub memory: FittedCosts,
}

impl Surveyed {
    /// Of all strategies.
    pub(crate) fn kind(&self) -> StrategyKind {
        StrategyKind::ulysses(self.activations)
    }

    /// Tokens that a group of `degree` has room for, at least 1.
    pub(crate) fn most_tokens(&self, degree: Degree) -> u64 {
        let of_kind = self.memory.kinds.get(&self.kind());
        let per_token = of_kind.and_then(|costs| {
            let mut table = costs.memory_bytes_per_token.iter();
            table.find(|(listed, _)| *listed == degree)
        });
        let room = self.device_memory.as_f64() - self.memory.fixed_memory_bytes;
        // Where nothing is known of memory, the context alone is the limit.
        let most = per_token.map_or(self.context.0 as f64, |(_, bytes)| room / bytes);
        (most as u64).max(1)
    }
}
