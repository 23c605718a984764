//! The subject of a survey: devices, groups and a model, as far as they are known without measuring.

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Strategy, StrategyKind, StrategySpace, Tokens,
};
use lengthwise_cost::{CoreSharing, FittedCosts, KindCosts};

/// The subject of a survey.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Where micro-batches run.
    pub cluster: Cluster,
    /// The strategies that groups may use. Ranks on their own are measured with each choice for activations, whether groups
    /// may be such or not.
    pub space: StrategySpace,
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
    /// The memory of devices, and the known times of hops of rings and copies to the host.
    pub known: FittedCosts,
}

impl Surveyed {
    /// The kinds of strategy that groups may use.
    pub(crate) fn kinds(&self) -> Vec<StrategyKind> {
        let strategies = self.space.strategies().iter();
        let mut kinds: Vec<StrategyKind> = strategies.map(|strategy| strategy.kind()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The choices for activations, the one that exchanges are measured with first: where layers are run again most is
    /// exchanged, and least held.
    pub(crate) fn activations(&self) -> Vec<Activations> {
        let usual = [Activations::Recompute, Activations::Keep, Activations::Host];
        let kinds = self.kinds();
        let is_used = |of: &Activations| kinds.iter().any(|kind| kind.activations == *of);
        usual.into_iter().filter(is_used).collect()
    }

    /// Tokens that a group has room for, at least 1.
    pub(crate) fn most_tokens(&self, strategy: Strategy) -> u64 {
        let room = self.device_memory.as_f64() - self.known.fixed_memory_bytes;
        // Where nothing is known of memory, the context alone is the limit.
        let most = self
            .bytes_per_token(strategy)
            .map_or(self.context.0 as f64, |bytes| room / bytes);
        // Whatever groups exchange, as many layer inputs are on the host.
        let host = self.alike(strategy).find_map(|(_, costs)| costs.host);
        let on_host = host.map_or(f64::MAX, |host| {
            let devices = self.cluster.devices().iter();
            let least = devices.map(|device| device.host_memory()).min();
            least.unwrap_or_default().as_f64() * f64::from(strategy.degree().get())
                / host.bytes_per_token.max(f64::MIN_POSITIVE)
        });
        (most.min(on_host) as u64).max(1)
    }

    /// The kinds of strategy that do the same with activations.
    fn alike(&self, strategy: Strategy) -> impl Iterator<Item = (&StrategyKind, &KindCosts)> {
        let activations = strategy.activations();
        let kinds = self.known.kinds.iter();
        kinds.filter(move |(kind, _)| kind.activations == activations)
    }

    /// Bytes that each token of a group adds on each of its devices, or at most those; `None` if nothing is known of them.
    ///
    /// What is not known, as ranks on their own may not be chosen, is no more than the same share of what larger groups hold
    /// together: these have blocks on their way and heads more than once, too.
    fn bytes_per_token(&self, strategy: Strategy) -> Option<f64> {
        let known = self.alike(strategy).flat_map(|(kind, costs)| {
            let table = costs.memory_bytes_per_token.iter();
            table.map(move |&(degree, bytes)| (*kind, degree, bytes))
        });
        let known: Vec<(StrategyKind, Degree, f64)> = known.collect();
        let its_own = (strategy.kind(), strategy.degree());
        let own = known
            .iter()
            .find(|(kind, degree, _)| (*kind, *degree) == its_own);
        let share = |degree: Degree| f64::from(degree.get()) / f64::from(strategy.degree().get());
        let shares = known
            .iter()
            .map(|&(_, degree, bytes)| bytes * share(degree));
        own.map(|&(_, _, bytes)| bytes)
            .or_else(|| shares.reduce(f64::min))
    }
}
