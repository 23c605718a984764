//! The costs of steps, as `trainer.json` holds them: for a run that goes on where they were measured.

use lengthwise_core::{Degree, Seconds, StrategyKind, StrategySpace};
use lengthwise_cost::format::{ActivationsName, ExchangeName, StrategyRecord};
use lengthwise_cost::{
    CoreSharing, FittedCosts, FittedModel, HopCosts, HostProfile, KindCosts, Refinement, RingCosts,
    StepModel,
};
use serde::{Deserialize, Serialize};

use super::record::ClusterRecord;
use crate::TrainOptions;

/// The costs that plans are drawn up with, and how far measured steps have refined them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostsRecord {
    /// The devices that they hold for.
    pub cluster: ClusterRecord,
    /// The longest sequence that they hold for, in tokens.
    pub context: u64,
    /// The strategies that they were measured for.
    pub strategies: Vec<StrategyRecord>,
    /// Query heads that ranks share.
    pub num_heads: Option<u32>,
    /// Of a device, whatever it works on.
    pub fixed_memory_bytes: f64,
    /// Of a micro-batch.
    pub micro_batch_overhead_s: f64,
    /// Of sequences, by kind of strategy.
    pub kinds: Vec<KindRecord>,
    /// Of a step, beside its micro-batches.
    pub step_overhead_s: f64,
    /// Cores that the ranks share.
    pub num_cores: u32,
    /// By what steps have changed each coefficient; `None` where they refine nothing.
    pub factors: Option<Vec<f64>>,
    /// The same for `step_overhead_s`.
    pub step_overhead_factor: f64,
}

/// The costs of sequences under strategies of one kind: [`KindCosts`], to the bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindRecord {
    exchange: ExchangeName,
    activations: ActivationsName,
    quadratic_s_per_token2: f64,
    linear_s_per_token: f64,
    constant_s_per_sequence: f64,
    exchange_s_per_token: Table,
    many_nodes_exchange_s_per_token: Table,
    memory_bytes_per_token: Table,
    ring: Option<RingRecord>,
    host: Option<HostProfile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingRecord {
    forward_share: f64,
    one_node_forward_s_per_token: Table,
    one_node_backward_s_per_token: Table,
    many_nodes_forward_s_per_token: Table,
    many_nodes_backward_s_per_token: Table,
}

/// Figures by degree.
type Table = Vec<(u32, f64)>;

fn table(of: &[(Degree, f64)]) -> Table {
    let entries = of.iter().map(|&(degree, value)| (degree.get(), value));
    entries.collect()
}

/// `None` if a degree is none.
fn degrees(of: &[(u32, f64)]) -> Option<Vec<(Degree, f64)>> {
    let degrees = of.iter();
    let degrees = degrees.map(|&(degree, value)| Some((Degree::new(degree).ok()?, value)));
    degrees.collect()
}

impl CostsRecord {
    /// The costs of a run that chooses among these strategies, with what steps have refined.
    pub(crate) fn new(
        options: &TrainOptions,
        space: &StrategySpace,
        first: &StepModel,
        refinement: Option<&Refinement>,
    ) -> Self {
        let costs = first.cost.costs();
        let kinds = costs.kinds.iter();
        CostsRecord {
            cluster: ClusterRecord::new(&options.cluster, options.emulation.as_ref()),
            context: options.context.0,
            strategies: strategies(space),
            num_heads: costs.num_heads,
            fixed_memory_bytes: costs.fixed_memory_bytes,
            micro_batch_overhead_s: costs.micro_batch_overhead_s,
            kinds: kinds
                .map(|(&kind, costs)| KindRecord::new(kind, costs))
                .collect(),
            step_overhead_s: first.step_overhead.get(),
            num_cores: first.sharing.num_cores(),
            factors: refinement.map(|refinement| refinement.factors().to_vec()),
            step_overhead_factor: refinement.map_or(1.0, Refinement::step_overhead_factor),
        }
    }

    /// Whether a run with these options and strategies has the devices and the choices that they were measured for.
    pub(crate) fn hold_for(&self, options: &TrainOptions, space: &StrategySpace) -> bool {
        self.cluster == ClusterRecord::new(&options.cluster, options.emulation.as_ref())
            && self.context == options.context.0
            && self.strategies == strategies(space)
    }

    /// The costs as they were measured; `None` if they are no costs.
    pub(crate) fn model(&self, options: &TrainOptions) -> Option<StepModel> {
        let kinds = self.kinds.iter().map(KindRecord::costs);
        let costs = FittedCosts {
            num_heads: self.num_heads,
            fixed_memory_bytes: self.fixed_memory_bytes,
            micro_batch_overhead_s: self.micro_batch_overhead_s,
            kinds: kinds.collect::<Option<_>>()?,
        };
        costs.check_reach(options.context).ok()?;
        let is_priced = |one: &StrategyRecord| costs.kinds.contains_key(&one.0.kind());
        if !self.strategies.iter().all(is_priced) {
            return None;
        }
        Some(StepModel {
            cost: FittedModel::new(costs).ok()?,
            step_overhead: Seconds::new(self.step_overhead_s).ok()?,
            sharing: CoreSharing::new(options.cluster.num_devices(), self.num_cores),
        })
    }
}

fn strategies(space: &StrategySpace) -> Vec<StrategyRecord> {
    let strategies = space.strategies().iter().copied();
    strategies.map(StrategyRecord).collect()
}

impl KindRecord {
    fn new(kind: StrategyKind, costs: &KindCosts) -> Self {
        KindRecord {
            exchange: ExchangeName(kind.exchange),
            activations: ActivationsName(kind.activations),
            quadratic_s_per_token2: costs.quadratic_s_per_token2,
            linear_s_per_token: costs.linear_s_per_token,
            constant_s_per_sequence: costs.constant_s_per_sequence,
            exchange_s_per_token: table(&costs.exchange_s_per_token),
            many_nodes_exchange_s_per_token: table(&costs.many_nodes_exchange_s_per_token),
            memory_bytes_per_token: table(&costs.memory_bytes_per_token),
            ring: costs.ring.as_ref().map(RingRecord::new),
            host: costs.host.map(HostProfile::from),
        }
    }

    /// `None` if a degree is none.
    fn costs(&self) -> Option<(StrategyKind, KindCosts)> {
        let kind = StrategyKind {
            exchange: self.exchange.0,
            activations: self.activations.0,
        };
        let ring = self.ring.as_ref().map(RingRecord::costs);
        let costs = KindCosts {
            quadratic_s_per_token2: self.quadratic_s_per_token2,
            linear_s_per_token: self.linear_s_per_token,
            constant_s_per_sequence: self.constant_s_per_sequence,
            exchange_s_per_token: degrees(&self.exchange_s_per_token)?,
            many_nodes_exchange_s_per_token: degrees(&self.many_nodes_exchange_s_per_token)?,
            memory_bytes_per_token: degrees(&self.memory_bytes_per_token)?,
            ring: match ring {
                Some(ring) => Some(ring?),
                None => None,
            },
            host: self.host.map(Into::into),
        };
        Some((kind, costs))
    }
}

impl RingRecord {
    fn new(costs: &RingCosts) -> Self {
        RingRecord {
            forward_share: costs.forward_share,
            one_node_forward_s_per_token: table(&costs.one_node.forward_s_per_token),
            one_node_backward_s_per_token: table(&costs.one_node.backward_s_per_token),
            many_nodes_forward_s_per_token: table(&costs.many_nodes.forward_s_per_token),
            many_nodes_backward_s_per_token: table(&costs.many_nodes.backward_s_per_token),
        }
    }

    /// `None` if a degree is none.
    fn costs(&self) -> Option<RingCosts> {
        let hops = |forward: &Table, backward: &Table| {
            Some(HopCosts {
                forward_s_per_token: degrees(forward)?,
                backward_s_per_token: degrees(backward)?,
            })
        };
        Some(RingCosts {
            forward_share: self.forward_share,
            one_node: hops(
                &self.one_node_forward_s_per_token,
                &self.one_node_backward_s_per_token,
            )?,
            many_nodes: hops(
                &self.many_nodes_forward_s_per_token,
                &self.many_nodes_backward_s_per_token,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, Exchange, Strategy};
    use lengthwise_cost::HostCosts;

    use super::*;

    /// Figures that decimal numbers don't hold.
    fn figures(of: &[u32]) -> Vec<(Degree, f64)> {
        let entry = |&degree: &u32| (Degree::new(degree).unwrap(), 1e-7 / 3.0 / f64::from(degree));
        of.iter().map(entry).collect()
    }

    /// The costs of every term, but of kinds that lack some.
    fn kinds() -> [(StrategyKind, KindCosts); 3] {
        let ulysses = KindCosts {
            quadratic_s_per_token2: 1e-9 / 3.0,
            linear_s_per_token: 1e-6 / 3.0,
            constant_s_per_sequence: 1e-4 / 3.0,
            exchange_s_per_token: figures(&[2, 4]),
            many_nodes_exchange_s_per_token: figures(&[4]),
            memory_bytes_per_token: figures(&[1, 2]),
            ..KindCosts::default()
        };
        // A hop that takes no time is not one that is unknown.
        let hops = HopCosts {
            forward_s_per_token: vec![(Degree::new(2).unwrap(), 0.0)],
            backward_s_per_token: figures(&[2, 4]),
        };
        let ring = KindCosts {
            ring: Some(RingCosts {
                forward_share: 1.0 / 3.0,
                one_node: hops.clone(),
                many_nodes: HopCosts {
                    backward_s_per_token: figures(&[8]),
                    ..hops
                },
            }),
            ..ulysses.clone()
        };
        let host = KindCosts {
            host: Some(HostCosts {
                forward_share: 1.0 / 7.0,
                copy_s_per_token: 1e-6 / 7.0,
                bytes_per_token: 1e4 / 7.0,
            }),
            ..ulysses.clone()
        };
        [
            (StrategyKind::ulysses(Activations::Keep), ulysses),
            (
                StrategyKind {
                    exchange: Exchange::Ring,
                    activations: Activations::Recompute,
                },
                ring,
            ),
            (StrategyKind::ulysses(Activations::Host), host),
        ]
    }

    #[test]
    fn costs_of_all_kinds_are_read_back_to_the_bit() {
        for (kind, costs) in kinds() {
            let text = serde_json::to_string(&KindRecord::new(kind, &costs)).unwrap();
            let record: KindRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(record.costs(), Some((kind, costs)));
        }
    }

    #[test]
    fn a_degree_that_is_none_makes_no_costs() {
        let [_, (kind, ring), _] = kinds();
        let record = KindRecord::new(kind, &ring);
        let mut bad = record.clone();
        bad.memory_bytes_per_token[0].0 = 0;
        assert_eq!(bad.costs(), None);
        let mut bad = record;
        if let Some(ring) = &mut bad.ring {
            ring.one_node_forward_s_per_token[0].0 = 0;
        }
        assert_eq!(bad.costs(), None);
    }

    #[test]
    fn strategies_tell_by_family_degree_and_activations() {
        let two = Degree::new(2).unwrap();
        let of = |strategy| strategies(&StrategySpace::new([strategy]).unwrap());
        let keep = of(Strategy::ulysses(two, Activations::Keep));
        assert_ne!(keep, of(Strategy::ring(two, Activations::Keep)));
        assert_ne!(keep, of(Strategy::ulysses(two, Activations::Host)));
        assert_ne!(keep, of(Strategy::ulysses(Degree::ONE, Activations::Keep)));
    }
}
