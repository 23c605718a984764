//! Profiles from before their format had versions: costs of one kind of strategy, in sections of their own.

use lengthwise_core::{Activations, Degree, Strategy, StrategyKind};
use serde::Deserialize;

use super::{ClusterProfile, KindProfile, ModelProfile, OverheadProfile};
use crate::format::{FormatVersion, StrategyRecord};
use crate::{
    FitReport, MeasuredFor, MeasuredGroup, MeasuredParts, Measurement, PerDegree, ProfileError,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    name: String,
    context_tokens: u64,
    cluster: ClusterProfile,
    model: Model,
    time: Time,
    exchange: Exchange,
    memory: Memory,
    measured_for: Option<Measured>,
    fit: Option<FitReport>,
    #[serde(default)]
    measurements: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    num_heads: Option<u32>,
    degrees: Option<Vec<u32>>,
    #[serde(default)]
    recompute: bool,
    #[serde(default)]
    attention_divides_evenly: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    quadratic_s_per_token2: f64,
    linear_s_per_token: f64,
    micro_batch_overhead_s: f64,
    #[serde(default)]
    step_overhead_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    bytes_per_token: f64,
    #[serde(default)]
    one_node_bandwidth_bytes_per_s: PerDegree,
    #[serde(default)]
    many_nodes_bandwidth_bytes_per_s: PerDegree,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    activation_bytes_per_token: f64,
    #[serde(default)]
    activation_bytes_per_token_by_degree: PerDegree,
    sharded_bytes: f64,
    #[serde(default)]
    fixed_bytes: f64,
    measured_bytes_per_local_token: Option<f64>,
    measured_bytes_per_sequence: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    ranks: u32,
    devices_per_node: u32,
    vocab: u64,
    hidden: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    ffn: u64,
    tied_output: bool,
    recompute: bool,
    data_type: String,
    emulated: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    held_out: bool,
    runs: u32,
    measured_s: f64,
    predicted_s: f64,
    peak_memory_bytes: u64,
    parts: MeasuredParts,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    count: u32,
    degree: u32,
    #[serde(default)]
    crosses_nodes: bool,
    seq_lens_tokens: Vec<u64>,
}

impl TryFrom<Profile> for super::Profile {
    type Error = ProfileError;

    /// # Errors
    ///
    /// It says two things of what is done with activations.
    fn try_from(old: Profile) -> Result<Self, ProfileError> {
        let recompute = old.model.recompute;
        if let Some(measured) = &old.measured_for
            && measured.recompute != recompute
        {
            return Err(ProfileError::TwoActivations {
                of_model: recompute,
                measured: measured.recompute,
            });
        }
        let activations = if recompute {
            Activations::Recompute
        } else {
            Activations::Keep
        };
        let measurements = old.measurements.into_iter();
        let measurements = measurements.map(|run| run.versioned(activations));
        Ok(super::Profile {
            version: FormatVersion,
            name: old.name,
            context_tokens: old.context_tokens,
            cluster: old.cluster,
            model: ModelProfile {
                num_heads: old.model.num_heads,
                degrees: old.model.degrees,
                attention_divides_evenly: old.model.attention_divides_evenly,
                sharded_bytes: old.memory.sharded_bytes,
                fixed_bytes: old.memory.fixed_bytes,
            },
            overhead: OverheadProfile {
                micro_batch_s: old.time.micro_batch_overhead_s,
                step_s: old.time.step_overhead_s,
            },
            costs: vec![KindProfile {
                quadratic_s_per_token2: old.time.quadratic_s_per_token2,
                linear_s_per_token: old.time.linear_s_per_token,
                exchanged_bytes_per_token: old.exchange.bytes_per_token,
                one_node_bandwidth_bytes_per_s: old.exchange.one_node_bandwidth_bytes_per_s,
                many_nodes_bandwidth_bytes_per_s: old.exchange.many_nodes_bandwidth_bytes_per_s,
                memory_bytes_per_token: old.memory.activation_bytes_per_token,
                memory_bytes_per_token_by_degree: old.memory.activation_bytes_per_token_by_degree,
                measured_bytes_per_local_token: old.memory.measured_bytes_per_local_token,
                measured_bytes_per_sequence: old.memory.measured_bytes_per_sequence,
                ..KindProfile::new(StrategyKind::ulysses(activations))
            }],
            measured_for: old.measured_for.map(Measured::versioned),
            fit: old.fit,
            measurements: measurements.collect::<Result<_, _>>()?,
        })
    }
}

impl Measured {
    fn versioned(self) -> MeasuredFor {
        MeasuredFor {
            ranks: self.ranks,
            devices_per_node: self.devices_per_node,
            vocab: self.vocab,
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            ffn: self.ffn,
            tied_output: self.tied_output,
            data_type: self.data_type,
            emulated: self.emulated,
        }
    }
}

impl Run {
    fn versioned(self, activations: Activations) -> Result<Measurement, ProfileError> {
        let group = |group: Group| {
            Ok(MeasuredGroup {
                count: group.count,
                strategy: StrategyRecord(Strategy::ulysses(
                    Degree::new(group.degree)?,
                    activations,
                )),
                crosses_nodes: group.crosses_nodes,
                seq_lens_tokens: group.seq_lens_tokens,
            })
        };
        let groups: Result<_, ProfileError> = self.groups.into_iter().map(group).collect();
        Ok(Measurement {
            held_out: self.held_out,
            runs: self.runs,
            measured_s: self.measured_s,
            predicted_s: self.predicted_s,
            peak_memory_bytes: self.peak_memory_bytes,
            parts: self.parts,
            groups: groups?,
        })
    }
}
