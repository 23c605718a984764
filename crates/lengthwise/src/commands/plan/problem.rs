//! A planning problem from files and arguments.

use std::error::Error;
use std::path::Path;

use lengthwise_core::{Cluster, Degree, GlobalBatch, StrategySpace, Tokens};
use lengthwise_cost::{AnalyticModel, FittedModel, Profile, ProfileError};
use lengthwise_plan::Problem;

use super::Lengths;
use crate::described::DescribedCosts;
use crate::failure::Failure;

/// A problem with all its parts.
pub(crate) struct OwnedProblem {
    pub(crate) batch: GlobalBatch,
    pub(crate) cluster: Cluster,
    pub(crate) cost: FittedModel,
    pub(crate) space: StrategySpace,
    /// What it was made from.
    pub(crate) profile: Profile,
    pub(super) degrees: Option<Vec<Degree>>,
}

impl OwnedProblem {
    /// The problem of these lengths on the profile's cluster, or on another number of its devices.
    pub(crate) fn new(
        profile: &Path,
        lengths: &Lengths,
        num_devices: Option<u32>,
        context: Option<Tokens>,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, Failure> {
        let costs = read_profile(profile)?;
        let cluster = costs
            .cluster(num_devices)
            .map_err(|error| profile_failure(profile, &error))?;
        Self::of_profile(profile, costs, cluster, lengths, context, degrees)
    }

    /// The problem of these lengths for devices that compute as a profile says, but in another cluster.
    pub(crate) fn on_cluster(
        profile: &Path,
        cluster: Cluster,
        lengths: &Lengths,
        context: Option<Tokens>,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, Failure> {
        Self::of_profile(
            profile,
            read_profile(profile)?,
            cluster,
            lengths,
            context,
            degrees,
        )
    }

    fn of_profile(
        path: &Path,
        costs: Profile,
        cluster: Cluster,
        lengths: &Lengths,
        context: Option<Tokens>,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, Failure> {
        let in_profile = |error: ProfileError| profile_failure(path, &error);
        let cost = costs.model(&cluster).map_err(in_profile)?;
        let space = match degrees {
            Some(degrees) => chosen_space(degrees, &costs, &cluster)?,
            None => costs.space(&cluster).map_err(in_profile)?,
        };
        let parts = (cluster, cost, space);
        Self::of_parts(parts, costs, lengths, context, degrees)
    }

    /// The problem of these lengths for a model on a described cluster, or on another number of its devices.
    pub(crate) fn described(
        described: &DescribedCosts,
        lengths: &Lengths,
        num_devices: Option<u32>,
        context: Option<Tokens>,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, Failure> {
        let context = context.unwrap_or(DescribedCosts::USUAL_CONTEXT);
        let analytic = described.analytic(num_devices, None, context)?;
        // What errors say of other numbers of devices is for equal ones, which a profile can hold.
        let equal = AnalyticModel::new(
            analytic.architecture().clone(),
            analytic.hardware().without_other_devices(),
        );
        let costs = equal
            .profile(context.0)
            .map_err(|error| described.failure(&error))?;
        let cluster = described.cluster(&analytic)?;
        let space = match degrees {
            Some(degrees) => chosen_space(degrees, &costs, &cluster)?,
            None => described.space(&analytic)?,
        };
        let parts = (cluster, described.model(&analytic)?, space);
        Self::of_parts(parts, costs, lengths, Some(context), degrees)
    }

    fn of_parts(
        (cluster, cost, space): (Cluster, FittedModel, StrategySpace),
        costs: Profile,
        lengths: &Lengths,
        context: Option<Tokens>,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, Failure> {
        let context = context.unwrap_or(costs.context());
        if let Some(index) = lengths.tokens.iter().position(|&tokens| tokens > context.0) {
            let place = lengths.place(index);
            let message = format!(
                "{place}: {} tokens are more than the context of {context}",
                lengths.tokens[index]
            );
            return Err(
                Failure::input(message).hint("split or skip longer documents, or raise --context")
            );
        }
        let batch = GlobalBatch::from_lens(lengths.tokens.iter().copied())
            .map_err(|error| Failure::input(error.to_string()))?;
        Ok(OwnedProblem {
            batch,
            cluster,
            cost,
            space,
            profile: costs,
            degrees: degrees.map(<[Degree]>::to_vec),
        })
    }

    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem {
            batch: &self.batch,
            cluster: &self.cluster,
            cost: &self.cost,
            space: &self.space,
        }
    }
}

/// The strategies of the degrees that were asked for.
///
/// Those of the profile are what it was measured for; others follow from its tables.
fn chosen_space(
    degrees: &[Degree],
    costs: &Profile,
    cluster: &Cluster,
) -> Result<StrategySpace, Failure> {
    let failure = |message: String| Failure::input(format!("--degrees: {message}"));
    if let Some(twice) = (1..degrees.len()).find(|&at| degrees[..at].contains(&degrees[at])) {
        let message = format!(
            "degree {} is listed twice; once is the rule",
            degrees[twice]
        );
        return Err(failure(message));
    }
    if let Some(num_heads) = costs.model.num_heads
        && let Some(degree) = degrees.iter().find(|degree| degree.get() > num_heads)
    {
        let message = format!(
            "degree {degree} is more than the model's {num_heads} heads; each rank of a group needs one"
        );
        return Err(failure(message));
    }
    let space = costs.space_of(degrees);
    let space = space.and_then(|space| Ok(space.limited_to(cluster.num_devices())?));
    space.map_err(|error| failure(error.to_string()))
}

/// The profile in a file.
pub(crate) fn read_profile(path: &Path) -> Result<Profile, Failure> {
    Profile::read(path).map_err(|error| profile_failure(path, &error))
}

/// The failure that a profile brings about.
pub(crate) fn profile_failure(path: &Path, error: &ProfileError) -> Failure {
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let message = error.to_string();
    let message = message.trim_end();
    match error {
        ProfileError::Unreadable { .. } => Failure::input(format!("{message}{cause}")),
        ProfileError::Syntax(_) => Failure::input(format!("{}: {message}", path.display())),
        _ => Failure::input(format!("{}: {message}{cause}", path.display())),
    }
}
