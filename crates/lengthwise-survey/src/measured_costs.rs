//! The result of a survey.

use std::collections::BTreeMap;

use lengthwise_core::{Activations, Bytes, Degree, StrategyKind};
use lengthwise_cost::format::FormatVersion;
use lengthwise_cost::{
    ClusterProfile, CostModel, FitReport, HostProfile, KindCosts, KindProfile, MeasuredFor,
    Measurement, ModelProfile, OverheadProfile, PerDegree, Profile, RingProfile, StepModel,
};

use crate::Surveyed;

/// The measurements of a survey, and the costs that follow from them.
#[derive(Clone, Debug)]
pub struct MeasuredCosts {
    /// The subject of the survey.
    pub surveyed: Surveyed,
    /// The costs of steps.
    pub model: StepModel,
    /// How well that fits.
    pub report: FitReport,
    /// All that was run.
    pub measurements: Vec<Measurement>,
    /// Bytes that a device was seen to hold for each of its own tokens; none where no peak was recorded.
    pub bytes_per_local_token: Option<f64>,
    /// Bytes that a device was seen to hold for each sequence of its group.
    pub bytes_per_sequence: Option<f64>,
}

/// The content of a profile beside measurements.
#[derive(Clone, Debug)]
pub struct ProfileHeader {
    /// Its name in reports.
    pub name: String,
    /// The conditions that it holds for.
    pub measured_for: MeasuredFor,
    /// The degrees that were asked for, if any were.
    pub degrees: Option<Vec<Degree>>,
    /// What groups exchange for a token, all ranks together, by what they do with activations. Of rings it is what as many
    /// ranks would exchange for heads: bandwidths are quotients.
    pub exchanged_bytes_per_token: BTreeMap<Activations, f64>,
    /// The bytes of parameters, gradients and moments on all ranks together.
    pub sharded: Bytes,
}

impl MeasuredCosts {
    /// The same as a profile's file holds it.
    pub fn profile(&self, header: ProfileHeader) -> Profile {
        let surveyed = &self.surveyed;
        let all = self.model.cost.costs();
        let num_ranks = surveyed.cluster.num_devices();
        let sharded = header.sharded.as_f64();
        let of_kind = |(kind, costs): (&StrategyKind, &KindCosts)| {
            let exchanged = &header.exchanged_bytes_per_token;
            let exchanged = exchanged.get(&kind.activations).copied().unwrap_or(0.0);
            self.kind_profile(*kind, costs, exchanged)
        };
        let costs = all.kinds.iter().map(of_kind).collect();
        Profile {
            version: FormatVersion,
            name: header.name,
            context_tokens: surveyed.context.0,
            cluster: cluster_profile(surveyed),
            model: ModelProfile {
                num_heads: Some(header.measured_for.heads as u32),
                degrees: header
                    .degrees
                    .map(|degrees| degrees.iter().map(|degree| degree.get()).collect()),
                attention_divides_evenly: all.num_heads.is_none(),
                sharded_bytes: sharded,
                fixed_bytes: (all.fixed_memory_bytes - sharded / f64::from(num_ranks)).max(0.0),
            },
            overhead: OverheadProfile {
                micro_batch_s: self.model.cost.micro_batch_overhead().get(),
                step_s: self.model.step_overhead.get(),
            },
            costs,
            measured_for: Some(header.measured_for),
            fit: Some(self.report.clone()),
            measurements: self.measurements.clone(),
        }
    }
}

impl MeasuredCosts {
    fn kind_profile(&self, kind: StrategyKind, costs: &KindCosts, exchanged: f64) -> KindProfile {
        let bandwidths = |table: &[(Degree, f64)]| {
            let bandwidth = table.iter().map(|&(degree, seconds)| {
                (degree, exchanged / (f64::from(degree.get()) * seconds))
            });
            PerDegree::new(bandwidth.filter(|(_, bandwidth)| bandwidth.is_finite()))
        };
        let together = costs.memory_bytes_per_token.iter();
        let together: Vec<(Degree, f64)> = together
            .map(|&(degree, bytes)| (degree, bytes * f64::from(degree.get())))
            .collect();
        // Peaks were seen with one choice for activations.
        let is_first = self.surveyed.activations().first() == Some(&kind.activations);
        KindProfile {
            quadratic_s_per_token2: costs.quadratic_s_per_token2,
            linear_s_per_token: costs.linear_s_per_token,
            constant_s_per_sequence: costs.constant_s_per_sequence,
            exchanged_bytes_per_token: exchanged,
            one_node_bandwidth_bytes_per_s: bandwidths(&costs.exchange_s_per_token),
            many_nodes_bandwidth_bytes_per_s: bandwidths(&costs.many_nodes_exchange_s_per_token),
            memory_bytes_per_token: together.first().map_or(0.0, |&(_, bytes)| bytes),
            memory_bytes_per_token_by_degree: PerDegree::new(together),
            measured_bytes_per_local_token: self.bytes_per_local_token.filter(|_| is_first),
            measured_bytes_per_sequence: self.bytes_per_sequence.filter(|_| is_first),
            ring: costs.ring.as_ref().map(RingProfile::new),
            host: costs.host.map(HostProfile::from),
            ..KindProfile::new(kind)
        }
    }
}

/// The devices that costs were measured on.
fn cluster_profile(surveyed: &Surveyed) -> ClusterProfile {
    let cluster = &surveyed.cluster;
    let first = cluster.devices()[0];
    let nodes = || (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
    let per_node = nodes().next().map_or(0, |ranks| ranks.len());
    let are_alike = cluster.devices().iter().all(|device| *device == first);
    if !are_alike || nodes().any(|ranks| ranks.len() != per_node) {
        return ClusterProfile::mixed(cluster);
    }
    let sharing = surveyed.sharing;
    let num_cores = sharing.is_shared().then(|| sharing.num_cores());
    ClusterProfile::equal(cluster.num_devices(), per_node as u32, first, num_cores)
}
