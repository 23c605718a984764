//! The strategies that the options of a run leave to choose from.

use lengthwise_core::{Bytes, CoreError, StrategySpace};

use crate::{TrainError, TrainOptions, memory};

/// The strategies that model and cluster allow, if the options make a run at all.
///
/// # Errors
///
/// They make none, or no strategy is left.
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
    let heads = options.model.heads as u32;
    let space = match &options.space {
        Some(space) => with_a_head_a_rank(space, heads)?,
        None => StrategySpace::ulysses_up_to(heads, options.activations)?,
    };
    let space = space.limited_to(options.cluster.num_devices())?;
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

/// Those strategies in which each rank that exchanges tokens for heads gets at least one. Rings may be longer.
fn with_a_head_a_rank(space: &StrategySpace, heads: u32) -> Result<StrategySpace, CoreError> {
    let strategies = space.strategies().iter().copied();
    let fitting: Vec<_> = strategies
        .filter(|strategy| strategy.ulysses_degree().get() <= heads)
        .collect();
    if fitting.is_empty() {
        return Err(CoreError::NoDegrees {
            reason: format!(
                "all exchange tokens for heads among more ranks than the {heads} heads"
            ),
        });
    }
    StrategySpace::new(fitting)
}
