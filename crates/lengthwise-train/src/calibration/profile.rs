//! Measured costs as a profile file holds them.

use lengthwise_comm::Emulation;
use lengthwise_core::{Activations, Bytes, StrategySpace};
use lengthwise_cost::{
    ClusterLinks, FittedCosts, FittedModel, Link, MeasuredFor, Profile, ProfileError, StepModel,
};
use lengthwise_survey::{MeasuredCosts, ProfileHeader};

use super::known_costs;
use crate::model::ModelSpec;
use crate::{TrainOptions, volume};

/// Bytes of a parameter with its gradient and both moments.
const BYTES_PER_PARAMETER: u64 = 16;

/// The conditions that a run's costs hold for.
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
    let counted = known_costs(options, space);
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
    let per_parameter =
        BYTES_PER_PARAMETER * ModelSpec::new(&options.model).num_parameters() as u64;
    let header = ProfileHeader {
        name: name.to_owned(),
        measured_for: measured_for(options),
        degrees: options.degrees.clone(),
        exchanged_bytes_per_token: Activations::ALL
            .map(|choice| {
                let bytes = volume::exchanged_bytes_per_token(&options.model, choice);
                (choice, bytes)
            })
            .into(),
        sharded: Bytes(per_parameter),
    };
    measured.profile(header)
}
