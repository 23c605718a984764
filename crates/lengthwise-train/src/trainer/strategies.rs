//! The strategies that the options of a run leave to choose from.

use lengthwise_core::{Bytes, StrategySpace};

use crate::{TrainError, TrainOptions, memory};

/// The strategies that model and cluster allow, if the options make a run at all.
pub fn allowed_strategies(options: &TrainOptions) -> Result<StrategySpace, TrainError> {
    options.model.check()?;
    options.optimizer.check()?;
    if let Some(emulation) = &options.emulation
        && *emulation.cluster() != options.cluster
    {
        return Err(TrainError::OtherClusterEmulated {
            emulated: emulation.cluster().num_devices(),
            num_devices: options.cluster.num_devices(),
        });
    }
    let space = StrategySpace::ulysses_up_to(options.model.heads as u32, options.activations)?
        .limited_to(options.cluster.num_devices())?;
    let space = match &options.degrees {
        Some(degrees) => space.restricted_to(degrees)?,
        None => space,
    };
    let fixed_bytes = memory::fixed_bytes(&options.model, options.cluster.num_devices() as usize);
    let fixed_memory = Bytes::from_f64_ceil(fixed_bytes).unwrap_or(Bytes(u64::MAX));
    for (rank, device) in options.cluster.ranks().zip(options.cluster.devices()) {
        if fixed_memory >= device.memory() {
            return Err(TrainError::ModelTooLarge {
                rank,
                budget: device.memory(),
                fixed_memory,
            });
        }
    }
    Ok(space)
}
