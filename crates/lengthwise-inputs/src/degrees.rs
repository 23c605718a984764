//! The degrees that groups may have, where they were chosen.

use lengthwise_core::{Cluster, Degree, StrategySpace};
use lengthwise_cost::Profile;

use crate::InputError;

/// The strategies of the degrees that were asked for.
///
/// Those of the profile are what it was measured for; others follow from its tables.
pub(crate) fn chosen_space(
    degrees: &[Degree],
    profile: &Profile,
    cluster: &Cluster,
) -> Result<StrategySpace, InputError> {
    if let Some(twice) = (1..degrees.len()).find(|&at| degrees[..at].contains(&degrees[at])) {
        let degree = degrees[twice];
        return Err(InputError::RepeatedDegree { degree });
    }
    if let Some(num_heads) = profile.model.num_heads
        && let Some(&degree) = degrees.iter().find(|degree| degree.get() > num_heads)
    {
        return Err(InputError::DegreeAboveHeads { degree, num_heads });
    }
    let space = profile.space_of(degrees);
    let space = space.and_then(|space| space.limited_to(cluster.num_devices()));
    space.map_err(InputError::NoDegree)
}
