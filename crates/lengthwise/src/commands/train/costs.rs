//! The costs of a profile, for a run.

use lengthwise_cost::StepModel;
use lengthwise_train::{TrainError, profiled_costs};

use crate::commands::plan::{profile_failure, read_profile};
use crate::failure::Failure;
use crate::settings::TrainSettings;

/// The costs that settings name a profile of; `None` where costs are to be measured.
pub fn profiled(settings: &TrainSettings) -> Result<Option<StepModel>, Failure> {
    let Some(setting) = &settings.profile else {
        return Ok(None);
    };
    let profile = read_profile(&setting.value)?;
    let costs = profiled_costs(&settings.options, &profile).map_err(|error| match &error {
        TrainError::Profile(error) => profile_failure(&setting.value, error)
            .hint("measure this run's with lengthwise profile CONFIG.toml -o FILE"),
        _ => Failure::input(error.to_string()),
    })?;
    Ok(Some(costs))
}
