//! Small clusters, models and plans.
#![allow(dead_code, reason = "every test file uses another part of it")]

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, Group, MicroBatch, Plan, Rank, Seconds,
    SequenceIndex, Speed, Strategy, StrategyKind,
};
use lengthwise_cost::{ClusterLinks, CostModel, FittedCosts, FittedModel, KindCosts, Link};
use lengthwise_sim::{ShardedBytes, StepCosts};

pub fn device(speed: f64) -> Device {
    Device::new(Bytes(1 << 40), Speed::new(speed).unwrap())
}

pub fn uniform(num_nodes: u32, devices_per_node: u32) -> Cluster {
    Cluster::uniform(num_nodes, devices_per_node, device(1.0)).unwrap()
}

pub fn with_speeds(devices_per_node: usize, speeds: &[f64]) -> Cluster {
    let nodes = speeds.chunks(devices_per_node);
    let nodes = nodes.map(|node| node.iter().map(|&speed| device(speed)).collect());
    Cluster::from_nodes(nodes.collect()).unwrap()
}

pub fn model(linear: f64, quadratic: f64, exchange: &[(u32, f64)], overhead: f64) -> FittedModel {
    let entry = |&(degree, seconds): &(u32, f64)| (Degree::new(degree).unwrap(), seconds);
    FittedModel::new(FittedCosts {
        fixed_memory_bytes: 5000.0,
        micro_batch_overhead_s: overhead,
        ..whatever_is_done_with_activations(&KindCosts {
            linear_s_per_token: linear,
            quadratic_s_per_token2: quadratic,
            exchange_s_per_token: exchange.iter().map(entry).collect(),
            memory_bytes_per_token: vec![(Degree::ONE, 100.0)],
            ..KindCosts::default()
        })
    })
    .unwrap()
}

/// The same costs with activations kept and recomputed.
pub fn whatever_is_done_with_activations(costs: &KindCosts) -> FittedCosts {
    let kinds = [Activations::Keep, Activations::Recompute];
    let kinds = kinds.map(|activations| (StrategyKind::ulysses(activations), costs.clone()));
    FittedCosts {
        kinds: kinds.into(),
        ..FittedCosts::default()
    }
}

/// A group of these ranks that recomputes its activations.
pub fn group(ranks: &[u32], sequences: &[u32]) -> Group {
    Group {
        strategy: Strategy::ulysses(
            Degree::new(ranks.len() as u32).unwrap(),
            Activations::Recompute,
        ),
        ranks: ranks.iter().copied().map(Rank).collect(),
        sequences: sequences.iter().copied().map(SequenceIndex).collect(),
    }
}

pub trait KeepingActivations {
    fn keeping_activations(self) -> Self;
}

impl KeepingActivations for Group {
    fn keeping_activations(mut self) -> Self {
        self.strategy = Strategy::ulysses(self.degree(), Activations::Keep);
        self
    }
}

pub fn plan(micro_batches: Vec<Vec<Group>>) -> Plan {
    let micro_batches = micro_batches.into_iter();
    Plan::new(micro_batches.map(|groups| MicroBatch { groups }).collect())
}

/// The figures of described links; by default none that would hold anything back.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub device_bytes_per_s: f64,
    pub nic_bytes_per_s: f64,
    pub nics_per_node: u32,
    pub device_latency_s: f64,
    pub nic_latency_s: f64,
    pub parameter_bytes: u64,
}

impl Default for Described {
    fn default() -> Self {
        Described {
            device_bytes_per_s: 1e18,
            nic_bytes_per_s: 1e18,
            nics_per_node: 1,
            device_latency_s: 0.0,
            nic_latency_s: 0.0,
            parameter_bytes: 0,
        }
    }
}

impl Described {
    pub fn links(&self) -> ClusterLinks {
        let link = |bandwidth, latency| Link::new(bandwidth, Seconds::new(latency).unwrap());
        ClusterLinks {
            device: link(self.device_bytes_per_s, self.device_latency_s).unwrap(),
            nics_per_node: self.nics_per_node,
            nic: link(self.nic_bytes_per_s, self.nic_latency_s).unwrap(),
        }
    }

    pub fn costs<'a>(
        &self,
        model: &'a dyn CostModel,
        num_layers: u32,
        exchange_bytes_per_token: f64,
    ) -> StepCosts<'a> {
        let sharded = ShardedBytes {
            parameters: Bytes(self.parameter_bytes),
            gradients: Bytes(self.parameter_bytes),
        };
        StepCosts::measured(model, num_layers, exchange_bytes_per_token)
            .unwrap()
            .over_links(self.links(), sharded, Seconds::ZERO)
    }
}
