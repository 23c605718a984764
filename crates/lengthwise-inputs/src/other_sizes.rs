//! The same costs for other numbers of devices and other degrees, which errors tell of.

use lengthwise_core::{
    Activations, Cluster, CoreError, Degree, SpaceLimits, Strategy, StrategyFamily, StrategySpace,
};
use lengthwise_cost::{AnalyticModel, FittedModel, Hardware, Profile, TokenVolume};

/// The groups that were chosen.
#[derive(Clone, Debug)]
pub(crate) struct ChosenStrategies {
    pub(crate) families: Vec<StrategyFamily>,
    pub(crate) activations: Vec<Activations>,
}

impl ChosenStrategies {
    /// Whether each rank of a group needs a head.
    pub(crate) fn are_limited_by_heads(&self) -> bool {
        let mut families = self.families.iter();
        families.all(|&family| family == StrategyFamily::Ulysses)
    }

    /// The strategies of these degrees that a profile has costs of, and heads for.
    pub(crate) fn space_of_profile(
        &self,
        profile: &Profile,
        degrees: &[Degree],
    ) -> Result<StrategySpace, CoreError> {
        let num_heads = profile.model.num_heads.unwrap_or(u32::MAX);
        let has_heads = |one: &Strategy| one.ulysses_degree().get() <= num_heads;
        let space = profile.space_of(degrees).and_then(|all| {
            let strategies = all.strategies().iter().copied();
            StrategySpace::new(strategies.filter(has_heads))?.of(&self.families, &self.activations)
        });
        space.map_err(|_| {
            let degrees: Vec<String> = degrees.iter().map(Degree::to_string).collect();
            let reason = format!("no group can have one of {}", degrees.join(", "));
            CoreError::NoDegrees { reason }
        })
    }

    /// The strategies that a model's heads and ranks allow, of these degrees or of all that are worth a choice.
    pub(crate) fn space(
        &self,
        analytic: &AnalyticModel,
        degrees: Option<&[Degree]>,
    ) -> Result<StrategySpace, CoreError> {
        analytic.space_of(&self.families, &self.activations, degrees)
    }
}

/// The sources of costs, of which there may be more or fewer devices.
#[derive(Clone, Debug)]
pub(crate) enum OtherSizes {
    /// Where everything moves over the links of a described cluster, on its devices.
    Profile(Box<Profile>, Option<Box<Hardware>>, ChosenStrategies),
    /// With equal devices, of which there can be any number.
    Described(Box<AnalyticModel>, ChosenStrategies),
}

impl OtherSizes {
    /// The strategies of these degrees, whatever the devices.
    pub(crate) fn space_of(&self, degrees: &[Degree]) -> Result<StrategySpace, CoreError> {
        match self {
            OtherSizes::Profile(profile, _, chosen) => chosen.space_of_profile(profile, degrees),
            OtherSizes::Described(analytic, chosen) => {
                let limits = SpaceLimits {
                    num_heads: Some(analytic.num_heads()),
                    ranks_per_node: analytic.ranks_per_node(),
                    num_ranks: u32::MAX,
                };
                let (families, activations) = (&chosen.families, &chosen.activations);
                StrategySpace::chosen(families, activations, limits, Some(degrees))
            }
        }
    }

    /// The bytes of tokens that travel.
    pub(crate) fn token_volume(&self) -> &dyn TokenVolume {
        match self {
            OtherSizes::Profile(profile, ..) => profile.as_ref(),
            OtherSizes::Described(analytic, _) => analytic.as_ref(),
        }
    }

    /// Whether only heads limit degrees that rings would not.
    pub(crate) fn is_limited_by_heads(&self) -> bool {
        matches!(self, OtherSizes::Described(_, chosen) if chosen.are_limited_by_heads())
    }

    /// Devices, costs and strategies where there are so many ranks; `None` where there can't be.
    pub(crate) fn of(
        &self,
        num_ranks: u32,
        degrees: Option<&[Degree]>,
    ) -> Option<(Cluster, FittedModel, StrategySpace)> {
        let (cluster, model, all) = match self {
            OtherSizes::Profile(profile, hardware, chosen) => {
                let cluster = match hardware {
                    Some(hardware) => hardware.with_num_devices(num_ranks).ok()?.cluster().ok()?,
                    None => profile.cluster(Some(num_ranks)).ok()?,
                };
                let model = profile.model(&cluster).ok()?;
                let all = match degrees {
                    Some(degrees) => self.space_of(degrees),
                    None => profile
                        .space(&cluster)
                        .ok()?
                        .of(&chosen.families, &chosen.activations),
                };
                (cluster, model, all)
            }
            OtherSizes::Described(analytic, chosen) => {
                let analytic = analytic.as_ref().clone().with_num_ranks(num_ranks).ok()?;
                let all = match degrees {
                    Some(degrees) => self.space_of(degrees),
                    None => chosen.space(&analytic, None),
                };
                (analytic.cluster().ok()?, analytic.model().ok()?, all)
            }
        };
        let space = all.and_then(|space| space.limited_to(num_ranks)).ok()?;
        Some((cluster, model, space))
    }
}
