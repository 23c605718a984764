//! The costs of a profile, for a run.

use lengthwise_cost::{Profile, StepModel};
use lengthwise_inputs::InputError;
use lengthwise_train::{TrainError, profiled_costs};

use crate::failure::Failure;
use crate::settings::TrainSettings;

/// The costs that settings name a profile of; `None` where costs are to be measured.
pub fn profiled(settings: &TrainSettings) -> Result<Option<StepModel>, Failure> {
    let Some(setting) = &settings.profile else {
        return Ok(None);
    };
    let of_file = |error| Failure::from(InputError::profile(&setting.value, error));
    let profile = Profile::read(&setting.value).map_err(of_file)?;
    let costs = profiled_costs(&settings.options, &profile).map_err(|error| match error {
        TrainError::Profile(error) => {
            of_file(error).hint("measure this run's with lengthwise profile CONFIG.toml -o FILE")
        }
        _ => Failure::input(error.to_string()),
    })?;
    Ok(Some(costs))
}
