//! The costs that planners are compared under: measured ones from a profile, or those that follow from a model and a
//! cluster.

use std::path::{Path, PathBuf};

use lengthwise_core::{
    Bytes, Cluster, Degree, Device, MemoryModel, Strategy, StrategyKind, StrategySpace, Tokens,
};
use lengthwise_cost::{ClusterLinks, ExchangeEfficiency, FittedModel, Profile};
use lengthwise_sim::ShardedBytes;

use crate::commands::plan::read_profile;
use crate::described::DescribedCosts;
use crate::failure::Failure;

/// Layers that a simulated step has where a profile doesn't say how many the model has. With measured costs the times
/// do not depend on it.
const SIMULATED_LAYERS: u32 = 4;

/// Where costs come from.
#[derive(Clone, Debug)]
pub(super) enum CostSource {
    /// A profile file.
    Profile {
        path: PathBuf,
        profile: Box<Profile>,
    },
    /// A model on a described cluster.
    Described(DescribedCosts),
}

/// What a setting changes about the costs as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) num_devices: Option<u32>,
    pub(super) context: Option<Tokens>,
    /// All that a device has.
    pub(super) memory: Option<Bytes>,
}

/// Costs, ready to plan with.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    pub(super) name: String,
    pub(super) cluster: Cluster,
    pub(super) model: FittedModel,
    pub(super) space: StrategySpace,
    pub(super) context: Tokens,
    pub(super) num_layers: u32,
    pub(super) exchange_bytes_per_token: f64,
    /// The links that everything moves over in simulated steps, what exchanges reach of them, and what ranks gather and
    /// scatter; `None` where times were measured.
    pub(super) links: Option<(ClusterLinks, ExchangeEfficiency, ShardedBytes)>,
}

impl CostSource {
    /// A profile whose text is at hand.
    pub(super) fn profile_text(name: &str, text: &str) -> Result<Self, Failure> {
        let profile = Profile::from_toml(text)
            .map_err(|error| Failure::input(format!("profile {name}: {error}")))?;
        Ok(CostSource::Profile {
            path: PathBuf::from(name),
            profile: Box::new(profile),
        })
    }

    pub(super) fn profile(path: &Path) -> Result<Self, Failure> {
        Ok(CostSource::Profile {
            path: path.to_owned(),
            profile: Box::new(read_profile(path)?),
        })
    }

    pub(super) fn described(cluster: &Path, model: &str) -> Result<Self, Failure> {
        Ok(CostSource::Described(DescribedCosts::read(cluster, model)?))
    }

    /// The costs of a setting.
    pub(super) fn costs(
        &self,
        changes: Changes,
        degrees: Option<&[Degree]>,
    ) -> Result<Costs, Failure> {
        match self {
            CostSource::Profile { path, profile } => of_profile(path, profile, changes, degrees),
            CostSource::Described(described) => of_described(described, changes, degrees),
        }
    }

    /// The longest sequence where nothing else is said.
    pub(super) fn usual_context(&self) -> Tokens {
        match self {
            CostSource::Profile { profile, .. } => profile.context(),
            CostSource::Described(_) => DescribedCosts::USUAL_CONTEXT,
        }
    }
}

impl Costs {
    /// The degree of a system that has one for all batches: the smallest that the longest permitted sequence fits, of
    /// those that divide the devices. None that fits is an error, with the memory that such a sequence needs.
    pub(super) fn static_degree(&self) -> Result<Degree, String> {
        let num_devices = self.cluster.num_devices();
        let devices = self.cluster.devices().iter();
        let budget = devices.map(|device| self.model.budget(device)).min();
        let budget = budget.unwrap_or(Bytes(0));
        let needed = |strategy: Strategy| self.model.sequence_memory(strategy, self.context);
        let fitting: Vec<Degree> = self
            .space
            .strategies()
            .iter()
            .filter(|&&strategy| needed(strategy) <= budget)
            .map(|strategy| strategy.degree())
            .collect();
        let divides = |degree: &&Degree| num_devices.is_multiple_of(degree.get());
        if let Some(&degree) = fitting.iter().find(divides).or(fitting.first()) {
            return Ok(degree);
        }
        let widest = self.space.strategies().last();
        Err(match widest {
            Some(&strategy) => format!(
                "{} tokens need {} on each of {} devices; {budget} are left for them",
                self.context,
                needed(strategy),
                strategy.degree()
            ),
            None => "there is no degree".to_owned(),
        })
    }
}

fn of_profile(
    path: &Path,
    profile: &Profile,
    changes: Changes,
    degrees: Option<&[Degree]>,
) -> Result<Costs, Failure> {
    let failure =
        |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", path.display()));
    let cluster = profile
        .cluster(changes.num_devices)
        .map_err(|error| failure(&error))?;
    let cluster = match changes.memory {
        Some(memory) => with_memory(&cluster, memory).map_err(|error| failure(&error))?,
        None => cluster,
    };
    let model = profile.model(&cluster).map_err(|error| failure(&error))?;
    let space = match degrees {
        Some(degrees) => {
            let most = profile.model.num_heads;
            chosen(degrees, most, profile.kinds(), &cluster)?
        }
        None => profile.space(&cluster).map_err(|error| failure(&error))?,
    };
    Ok(Costs {
        name: profile.name.clone(),
        model,
        space,
        context: changes.context.unwrap_or(profile.context()),
        num_layers: SIMULATED_LAYERS,
        exchange_bytes_per_token: profile.exchanged_bytes_per_token(),
        links: None,
        cluster,
    })
}

fn of_described(
    described: &DescribedCosts,
    changes: Changes,
    degrees: Option<&[Degree]>,
) -> Result<Costs, Failure> {
    let context = changes.context.unwrap_or(DescribedCosts::USUAL_CONTEXT);
    let analytic = described.analytic(changes.num_devices, changes.memory, context)?;
    let cluster = described.cluster(&analytic)?;
    let architecture = analytic.architecture();
    let space = match degrees {
        Some(degrees) => {
            let kind = [analytic.kind()];
            chosen(degrees, Some(architecture.num_heads()), kind, &cluster)?
        }
        None => described.space(&analytic)?,
    };
    let gathered = Bytes::from_f64_ceil(analytic.gathered_bytes()).unwrap_or(Bytes(u64::MAX));
    let sharded = ShardedBytes {
        parameters: gathered,
        gradients: gathered,
    };
    let hardware = analytic.hardware();
    Ok(Costs {
        name: architecture.name().to_owned(),
        model: described.model(&analytic)?,
        space,
        context,
        num_layers: architecture.num_layers(),
        exchange_bytes_per_token: analytic.exchange_bytes_per_token(Degree::ONE),
        links: Some((hardware.links(), hardware.exchange_efficiency(), sharded)),
        cluster,
    })
}

/// The degrees that were asked for, as far as the cluster is large enough.
fn chosen(
    degrees: &[Degree],
    num_heads: Option<u32>,
    kinds: impl IntoIterator<Item = StrategyKind>,
    cluster: &Cluster,
) -> Result<StrategySpace, Failure> {
    if let Some(num_heads) = num_heads
        && let Some(degree) = degrees.iter().find(|degree| degree.get() > num_heads)
    {
        return Err(Failure::input(format!(
            "--degrees: degree {degree} is more than the model's {num_heads} heads; each rank of a group needs one"
        )));
    }
    let of_kind = |kind: StrategyKind| {
        let strategy = move |&degree| Strategy::ulysses(degree, kind.activations);
        degrees.iter().map(strategy)
    };
    StrategySpace::new(kinds.into_iter().flat_map(of_kind))
        .and_then(|space| space.limited_to(cluster.num_devices()))
        .map_err(|error| Failure::input(format!("--degrees: {error}")))
}

fn with_memory(cluster: &Cluster, memory: Bytes) -> Result<Cluster, lengthwise_core::CoreError> {
    let nodes = (0..cluster.num_nodes()).map(|node| {
        let ranks = cluster.node_ranks(node).unwrap_or(0..0);
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let changed = devices
            .iter()
            .map(|device| Device::new(memory, device.speed()));
        changed.collect()
    });
    Cluster::from_nodes(nodes.collect())
}
