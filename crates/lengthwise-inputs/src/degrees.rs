//! The degrees that groups may have, where they were chosen.

use lengthwise_core::{Cluster, Degree, StrategySpace};
use lengthwise_cost::{AnalyticModel, Profile};

use crate::InputError;
use crate::other_sizes::ChosenStrategies;

/// The strategies of the degrees that were asked for.
///
/// Those of the profile are what it was measured for; others follow from its tables.
pub(crate) fn chosen_of_profile(
    degrees: &[Degree],
    profile: &Profile,
    cluster: &Cluster,
    chosen: &ChosenStrategies,
) -> Result<StrategySpace, InputError> {
    check_once(degrees)?;
    if let Some(num_heads) = profile.model.num_heads
        && chosen.are_limited_by_heads()
    {
        check_heads(degrees, num_heads)?;
    }
    let space = chosen.space_of_profile(profile, degrees);
    let space = space.and_then(|space| space.limited_to(cluster.num_devices()));
    space.map_err(InputError::NoDegree)
}

/// The strategies of the degrees that were asked for, of every chosen family that can have them.
pub(crate) fn chosen_of_described(
    degrees: &[Degree],
    analytic: &AnalyticModel,
    chosen: &ChosenStrategies,
) -> Result<StrategySpace, InputError> {
    check_once(degrees)?;
    let num_heads = analytic.num_heads();
    if chosen.are_limited_by_heads() {
        check_heads(degrees, num_heads)?;
    }
    let space = chosen.space(analytic, Some(degrees));
    space.map_err(InputError::NoDegree)
}

fn check_once(degrees: &[Degree]) -> Result<(), InputError> {
    match (1..degrees.len()).find(|&at| degrees[..at].contains(&degrees[at])) {
        Some(twice) => Err(InputError::RepeatedDegree {
            degree: degrees[twice],
        }),
        None => Ok(()),
    }
}

fn check_heads(degrees: &[Degree], num_heads: u32) -> Result<(), InputError> {
    match degrees.iter().find(|degree| degree.get() > num_heads) {
        Some(&degree) => Err(InputError::DegreeAboveHeads { degree, num_heads }),
        None => Ok(()),
    }
}
