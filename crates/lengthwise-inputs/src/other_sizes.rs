//! The same costs for other numbers of devices and other degrees, which errors tell of.

use lengthwise_core::{Cluster, CoreError, Degree, StrategySpace};
use lengthwise_cost::{AnalyticModel, FittedModel, Hardware, Profile};

use crate::Exchanges;

/// What costs follow from, of which there may be more or fewer devices.
#[derive(Clone, Debug)]
pub(crate) enum OtherSizes {
    /// Where everything moves over the links of a described cluster, on its devices.
    Profile(Box<Profile>, Option<Box<Hardware>>),
    /// With equal devices, of which there can be any number.
    Described(Box<AnalyticModel>, Exchanges),
}

impl OtherSizes {
    /// The strategies of these degrees, whatever the devices.
    pub(crate) fn space_of(&self, degrees: &[Degree]) -> Result<StrategySpace, CoreError> {
        match self {
            OtherSizes::Profile(profile, _) => profile.space_of(degrees),
            OtherSizes::Described(analytic, exchanges) => {
                let exchanges = exchanges.as_slice().iter();
                let strategies = exchanges.flat_map(|&exchange| {
                    analytic.strategies(exchange, degrees.iter().map(|degree| degree.get()))
                });
                StrategySpace::new(strategies)
            }
        }
    }

    /// Whether only heads limit degrees that rings would not.
    pub(crate) fn is_limited_by_heads(&self) -> bool {
        matches!(self, OtherSizes::Described(_, exchanges) if !exchanges.has_rings())
    }

    /// Devices, costs and strategies where there are so many ranks; `None` where there can't be.
    pub(crate) fn of(
        &self,
        num_ranks: u32,
        degrees: Option<&[Degree]>,
    ) -> Option<(Cluster, FittedModel, StrategySpace)> {
        let (cluster, model, all) = match self {
            OtherSizes::Profile(profile, hardware) => {
                let cluster = match hardware {
                    Some(hardware) => hardware.with_num_devices(num_ranks).ok()?.cluster().ok()?,
                    None => profile.cluster(Some(num_ranks)).ok()?,
                };
                let model = profile.model(&cluster).ok()?;
                let all = match degrees {
                    Some(degrees) => profile.space_of(degrees),
                    None => return Some((cluster.clone(), model, profile.space(&cluster).ok()?)),
                };
                (cluster, model, all)
            }
            OtherSizes::Described(analytic, exchanges) => {
                let analytic = analytic.as_ref().clone().with_num_ranks(num_ranks).ok()?;
                let all = match degrees {
                    Some(degrees) => self.space_of(degrees),
                    None => Ok(analytic.space_of(exchanges.as_slice()).ok()?),
                };
                (analytic.cluster().ok()?, analytic.model().ok()?, all)
            }
        };
        let space = all.and_then(|space| space.limited_to(num_ranks)).ok()?;
        Some((cluster, model, space))
    }
}
