//! The costs of a run's steps: measured here, or from a profile.

use lengthwise_core::{Cluster, StrategySpace};
use lengthwise_cost::{Profile, StepModel};
use lengthwise_tensor::CpuBackend;

use super::strategies::allowed_strategies;
use super::world::{backends, run_world};
use crate::{
    MeasuredCosts, MeasuringProgress, MeasuringRule, TrainError, TrainOptions, calibration,
};

/// The costs of steps, measured as [`train`](crate::train) does or more thoroughly; a run is given it with
/// [`TrainOptions::costs`].
///
/// `progress` hears now and then how far measuring has come, on the thread of some rank.
///
/// # Errors
///
/// As [`train`](crate::train), but for data and plans.
pub fn measure_costs(
    options: &TrainOptions,
    rule: &MeasuringRule,
    progress: &(dyn Fn(MeasuringProgress) + Sync),
) -> Result<MeasuredCosts, TrainError> {
    measure(
        options,
        &allowed_strategies(options)?,
        backends(options),
        rule,
        progress,
    )
}

/// The costs of steps from a profile, which a run is given with [`TrainOptions::costs`].
///
/// # Errors
///
/// The options are impossible, or the profile was measured for something else.
pub fn profiled_costs(options: &TrainOptions, profile: &Profile) -> Result<StepModel, TrainError> {
    Ok(calibration::profiled(
        profile,
        options,
        &allowed_strategies(options)?,
    )?)
}

pub fn measure(
    options: &TrainOptions,
    space: &StrategySpace,
    backends: Vec<CpuBackend>,
    rule: &MeasuringRule,
    progress: &(dyn Fn(MeasuringProgress) + Sync),
) -> Result<MeasuredCosts, TrainError> {
    let least = |cluster: &Cluster| cluster.devices().iter().map(|device| device.memory()).min();
    let memory = least(&options.cluster).unwrap_or_default();
    let mut models = run_world(options, backends, |world| {
        calibration::calibrate(options, &world, space, memory, rule, progress)
    })?;
    // Every rank has fitted the same agreed times.
    Ok(models.swap_remove(0))
}
