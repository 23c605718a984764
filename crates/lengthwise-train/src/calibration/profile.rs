//! Measured costs as a profile file holds them.

use lengthwise_comm::Emulation;
use lengthwise_core::{Bytes, Degree, StrategySpace};
use lengthwise_cost::format::FormatVersion;
use lengthwise_cost::{
    ClusterLinks, ClusterProfile, CostModel, FittedCosts, FittedModel, KindProfile, Link,
    MeasuredFor, ModelProfile, OverheadProfile, PerDegree, Profile, ProfileError, StepModel,
};

use super::{MeasuredCosts, core_sharing, counted_memory};
use crate::model::ModelSpec;
use crate::{TrainOptions, volume};

/// Bytes of a parameter with its gradient and both moments.
const BYTES_PER_PARAMETER: f64 = 16.0;

/// What a run's costs hold for.
pub fn measured_for(options: &TrainOptions) -> MeasuredFor {
    let model = &options.model;
    let first_node = options.cluster.node_ranks(0).map_or(0, |ranks| ranks.len());
    MeasuredFor {
        ranks: options.cluster.num_devices(),
        devices_per_node: first_node as u32,
        vocab: model.vocab as u64,
        hidden: model.hidden as u64,
        layers: model.layers as u64,
        heads: model.heads as u64,
        kv_heads: model.kv_heads as u64,
        ffn: model.ffn as u64,
        tied_output: model.tied_output,
        data_type: "f32".to_owned(),
        emulated: options
            .emulation
            .as_ref()
            .map_or("none".to_owned(), emulated),
    }
}

/// All of an emulated cluster that times depend on.
fn emulated(emulation: &Emulation) -> String {
    let ClusterLinks {
        device,
        nics_per_node,
        nic,
    } = emulation.links();
    let link = |link: Link| {
        let (bandwidth, latency) = (link.bandwidth_bytes_per_s(), link.latency());
        format!("{bandwidth:e} B/s after {latency}")
    };
    let speeds = emulation.cluster().devices().iter();
    let slowest = speeds
        .map(|device| device.speed().get())
        .fold(1.0, f64::min);
    format!(
        "devices of {:.4} cores, the slowest {slowest:.3} of that, {}; {nics_per_node} NICs a node, {}",
        emulation.core_fraction(),
        link(device),
        link(nic),
    )
}

/// The costs of a profile for a run, with the memory that the executor is known to need.
///
/// # Errors
///
/// The profile was measured for something else, or not for all degrees of the run.
pub fn profiled(
    profile: &Profile,
    options: &TrainOptions,
    space: &StrategySpace,
) -> Result<StepModel, ProfileError> {
    profile.check_measured_for(&measured_for(options))?;
    profile.check_degrees(space)?;
    let model = profile.step_model(&options.cluster)?;
    let counted = counted_memory(options, space.degrees());
    let mut costs = FittedCosts {
        fixed_memory_bytes: counted.fixed_memory_bytes,
        ..model.cost.costs().clone()
    };
    for (kind, counted) in counted.kinds {
        if let Some(profiled) = costs.kinds.get_mut(&kind) {
            profiled.memory_bytes_per_token = counted.memory_bytes_per_token;
        }
    }
    Ok(StepModel {
        cost: FittedModel::new(costs)?,
        ..model
    })
}

/// The profile of a run's model on the devices that it was measured on.
pub fn profile(name: &str, options: &TrainOptions, measured: &MeasuredCosts) -> Profile {
    let kind = options.strategy_kind();
    let all: &FittedCosts = measured.model.cost.costs();
    let costs = all.kinds.get(&kind).cloned().unwrap_or_default();
    let num_ranks = options.cluster.num_devices();
    let exchanged = volume::exchanged_bytes_per_token(&options.model, options.activations);
    let bandwidths = |table: &[(Degree, f64)]| {
        let bandwidth = table
            .iter()
            .map(|&(degree, seconds)| (degree, exchanged / (f64::from(degree.get()) * seconds)));
        PerDegree::new(bandwidth.filter(|(_, bandwidth)| bandwidth.is_finite()))
    };
    let sharded = BYTES_PER_PARAMETER * ModelSpec::new(&options.model).num_parameters() as f64;
    let together = costs.memory_bytes_per_token.iter();
    let together: Vec<(Degree, f64)> = together
        .map(|&(degree, bytes)| (degree, bytes * f64::from(degree.get())))
        .collect();
    Profile {
        version: FormatVersion,
        name: name.to_owned(),
        context_tokens: options.context.0,
        cluster: cluster_profile(options),
        model: ModelProfile {
            num_heads: Some(options.model.heads as u32),
            degrees: options
                .degrees
                .as_ref()
                .map(|degrees| degrees.iter().map(|degree| degree.get()).collect()),
            attention_divides_evenly: all.num_heads.is_none(),
            sharded_bytes: sharded,
            fixed_bytes: (all.fixed_memory_bytes - sharded / f64::from(num_ranks)).max(0.0),
        },
        overhead: OverheadProfile {
            micro_batch_s: measured.model.cost.micro_batch_overhead().get(),
            step_s: measured.model.step_overhead.get(),
        },
        costs: vec![KindProfile {
            quadratic_s_per_token2: costs.quadratic_s_per_token2,
            linear_s_per_token: costs.linear_s_per_token,
            exchanged_bytes_per_token: exchanged,
            one_node_bandwidth_bytes_per_s: bandwidths(&costs.exchange_s_per_token),
            many_nodes_bandwidth_bytes_per_s: bandwidths(&costs.many_nodes_exchange_s_per_token),
            memory_bytes_per_token: together.first().map_or(0.0, |&(_, bytes)| bytes),
            memory_bytes_per_token_by_degree: PerDegree::new(together),
            measured_bytes_per_local_token: Some(measured.bytes_per_local_token),
            measured_bytes_per_sequence: Some(measured.bytes_per_sequence),
            ..KindProfile::new(kind)
        }],
        measured_for: Some(measured_for(options)),
        fit: Some(measured.report.clone()),
        measurements: measured.measurements.clone(),
    }
}

/// The devices that costs were measured on.
fn cluster_profile(options: &TrainOptions) -> ClusterProfile {
    let cluster = &options.cluster;
    let first = cluster.devices()[0];
    if cluster.devices().iter().any(|device| *device != first) {
        return ClusterProfile::mixed(cluster);
    }
    let sharing = core_sharing(options);
    ClusterProfile::Equal {
        num_devices: cluster.num_devices(),
        devices_per_node: cluster.node_ranks(0).map_or(0, |ranks| ranks.len() as u32),
        memory_gib: first.memory().as_f64() / Bytes::from_mib(1024).as_f64(),
        num_cores: sharing.is_shared().then(|| sharing.num_cores()),
    }
}
