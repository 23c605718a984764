//! Costs, ready to plan with: measured ones from a profile, or those that follow from a model and a cluster.

use std::path::{Path, PathBuf};

use lengthwise_core::limits::SEQ_LEN;
use lengthwise_core::words::shown;
use lengthwise_core::{
    Activations, Bytes, Cluster, CoreError, Degree, Device, Exchange, Seconds, StrategyFamily,
    StrategyKind, StrategySpace, Tokens,
};
use lengthwise_cost::{
    AnalyticModel, ClusterLinks, ExchangeEfficiency, FittedModel, Hardware, Link, Logits,
    ModelShare, Profile, ProfileError,
};
use lengthwise_sim::{ShardedBytes, SimError, StepCosts};

use crate::cluster_source::ClusterSource;
use crate::degrees::{chosen_of_described, chosen_of_profile};
use crate::model_source::ModelSource;
use crate::other_sizes::{ChosenStrategies, OtherSizes};
use crate::{ActivationChoices, InputError, StrategyFamilies};

/// The longest sequence of a model on a described cluster, where nothing else is said.
const USUAL_CONTEXT: Tokens = Tokens(65_536);

/// Layers where a profile doesn't say how many the model has.
const USUAL_LAYERS: u32 = 32;

/// Of the bytes that each parameter takes in mixed precision, with its gradient, its exact value and two moments, the part
/// that is sent when it is gathered, and as much when its gradient is scattered.
const SENT_PART: f64 = 2.0 / 16.0;

/// Where costs come from.
#[derive(Clone, Debug)]
pub struct CostSource {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Devices as a profile has them; where a cluster is described, everything moves over its links.
    Profile {
        path: PathBuf,
        profile: Box<Profile>,
        cluster: Option<ClusterSource>,
    },
    /// A model on a described cluster.
    Described {
        cluster: ClusterSource,
        model: ModelSource,
        share: ModelShare,
    },
}

/// Changes to costs as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostChanges {
    /// How many devices there are, in nodes like those of the profile or cluster.
    pub num_devices: Option<u32>,
    /// The same in ranks, where each stands for several devices: where tensor and pipeline parallelism divide the model.
    pub num_ranks: Option<u32>,
    /// The longest sequence.
    pub context: Option<Tokens>,
    /// All that a device has.
    pub memory: Option<Bytes>,
    /// The families of strategies that groups may be of. By default all that there are costs of.
    pub strategies: Option<StrategyFamilies>,
    /// The treatments of activations to choose from. By default all that there are costs of.
    pub activations: Option<ActivationChoices>,
    /// Whose logits a device of a described model holds at once. By default those of all its tokens.
    pub logits: Option<Logits>,
}

/// Costs, ready to plan with.
#[derive(Clone, Debug)]
pub struct Costs {
    /// The profile's or the model's.
    pub name: String,
    /// The devices; where a rank stands for several, one for each rank.
    pub cluster: Cluster,
    /// Each device's share of the model.
    pub share: ModelShare,
    /// The costs of sequences there.
    pub model: FittedModel,
    /// The strategies that planners choose from.
    pub space: StrategySpace,
    /// The longest sequence.
    pub context: Tokens,
    /// Layers of the model; a profile doesn't say how many it has.
    pub num_layers: Option<u32>,
    /// What everything moves over; `None` where times were measured, and where devices share the model, for which it isn't
    /// known yet what moves when.
    pub transport: Option<Transport>,
    /// The same for other numbers of devices.
    pub(crate) other_sizes: OtherSizes,
    /// The same costs as far as a profile can hold them.
    profile: Profile,
    /// The degrees that were asked for.
    pub(crate) degrees: Option<Vec<Degree>>,
}

/// The traffic of a described cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Transport {
    /// The cluster's name.
    pub cluster: String,
    /// Its links.
    pub links: ClusterLinks,
    /// The part of them that exchanges reach.
    pub exchange_efficiency: ExchangeEfficiency,
    /// From each device to the memory of its host; `None` where none is described, so that copies take no time.
    pub host: Option<Link>,
    /// The bytes that ranks gather and scatter.
    pub sharded: ShardedBytes,
}

impl CostSource {
    /// A profile file.
    ///
    /// # Errors
    ///
    /// It can't be read, or breaks a rule.
    pub fn profile(path: &Path) -> Result<Self, InputError> {
        Self::of_profile(path, Profile::read(path), None)
    }

    /// A profile whose text is at hand.
    ///
    /// # Errors
    ///
    /// It breaks a rule.
    pub fn profile_text(name: &str, text: &str) -> Result<Self, InputError> {
        Self::of_profile(Path::new(name), Profile::from_toml(text), None)
    }

    /// Devices as a profile file has them, in the cluster of a name or of a file.
    ///
    /// # Errors
    ///
    /// A file can't be read, or breaks a rule; or no cluster has this name.
    pub fn profile_on_cluster(profile: &Path, cluster: &str) -> Result<Self, InputError> {
        let cluster = ClusterSource::named(cluster)?;
        Self::of_profile(profile, Profile::read(profile), Some(cluster))
    }

    /// A model on a cluster, each by name or as a file describes it.
    ///
    /// # Errors
    ///
    /// A file can't be read, or breaks a rule; or no cluster or no model has this name.
    pub fn described(cluster: &str, model: &str) -> Result<Self, InputError> {
        let cluster = ClusterSource::named(cluster)?;
        let model = ModelSource::named(model)?;
        let share = ModelShare::default();
        Ok(CostSource {
            kind: Kind::Described {
                cluster,
                model,
                share,
            },
        })
    }

    /// A profile at hand, perhaps in the cluster of a name or of a file; `path` is what errors call the profile.
    ///
    /// # Errors
    ///
    /// A file can't be read, or breaks a rule; or no cluster has this name.
    pub fn measured(
        profile: Profile,
        path: &Path,
        cluster: Option<&str>,
    ) -> Result<Self, InputError> {
        let cluster = cluster.map(ClusterSource::named).transpose()?;
        Self::of_profile(path, Ok(profile), cluster)
    }

    /// The same where tensor and pipeline parallelism leave each device this share of the model.
    ///
    /// # Errors
    ///
    /// The costs are those of a profile, and the share is not all of the model.
    pub fn with_share(mut self, divided: ModelShare) -> Result<Self, InputError> {
        match &mut self.kind {
            Kind::Described { share, .. } => *share = divided,
            Kind::Profile { .. } if divided.is_whole() => {}
            Kind::Profile { path, .. } => {
                let path = path.clone();
                return Err(InputError::ShareOfProfile { path });
            }
        }
        Ok(self)
    }

    fn of_profile(
        path: &Path,
        profile: Result<Profile, ProfileError>,
        cluster: Option<ClusterSource>,
    ) -> Result<Self, InputError> {
        let profile = profile.map_err(|error| InputError::profile(path, error))?;
        Ok(CostSource {
            kind: Kind::Profile {
                path: path.to_owned(),
                profile: Box::new(profile),
                cluster,
            },
        })
    }

    /// The longest sequence where nothing else is said.
    pub fn usual_context(&self) -> Tokens {
        match &self.kind {
            Kind::Profile { profile, .. } => profile.context(),
            Kind::Described { .. } => USUAL_CONTEXT,
        }
    }

    /// The costs with these changes, for groups of these degrees or, without any, of all that are possible.
    ///
    /// # Errors
    ///
    /// No cluster is like that, or the costs say nothing of a degree.
    pub fn costs(
        &self,
        changes: CostChanges,
        degrees: Option<&[Degree]>,
    ) -> Result<Costs, InputError> {
        let context = changes.context.unwrap_or(self.usual_context());
        if !SEQ_LEN.holds(context.0) {
            return Err(InputError::ContextTooLong { context });
        }
        let changes = self.counted(changes)?;
        match &self.kind {
            Kind::Profile {
                path,
                profile,
                cluster,
            } => {
                if let Some(logits) = changes.logits {
                    let path = path.clone();
                    return Err(InputError::LogitsOfProfile { path, logits });
                }
                let mut described = None;
                let (cluster, transport) = match cluster {
                    None => (devices(path, profile, changes)?, None),
                    Some(source) => {
                        let hardware = source.hardware(changes)?;
                        described = Some(Box::new(hardware.without_other_devices()));
                        let sent = profile.model.sharded_bytes * SENT_PART;
                        let transport = Transport::new(&hardware, sent);
                        (source.cluster(&hardware)?, Some(transport))
                    }
                };
                let in_profile = |error| InputError::profile(path, error);
                let chosen = choices(profile, changes).map_err(in_profile)?;
                let model = profile.model(&cluster).map_err(in_profile)?;
                let reach = model.costs().check_reach(context);
                reach.map_err(|error| in_profile(error.into()))?;
                Ok(Costs {
                    name: shown(&profile.name).to_string(),
                    model,
                    space: {
                        match degrees {
                            Some(degrees) => {
                                chosen_of_profile(degrees, profile, &cluster, &chosen)?
                            }
                            None => {
                                let all = profile.space(&cluster).map_err(in_profile)?;
                                let of_chosen = all.of(&chosen.families, &chosen.activations);
                                of_chosen.map_err(InputError::NoDegree)?
                            }
                        }
                    },
                    cluster,
                    share: ModelShare::default(),
                    context,
                    num_layers: None,
                    transport,
                    other_sizes: OtherSizes::Profile(profile.clone(), described, chosen),
                    profile: (**profile).clone(),
                    degrees: degrees.map(<[Degree]>::to_vec),
                })
            }
            Kind::Described {
                cluster,
                model,
                share,
            } => {
                let hardware = cluster.hardware(changes)?;
                let analytic = AnalyticModel::new(model.architecture(context), hardware)
                    .with_logits(changes.logits.unwrap_or_default());
                let analytic = analytic.with_share(*share).map_err(InputError::Share)?;
                described(cluster, &analytic, context, changes, degrees)
            }
        }
    }

    /// The changes with ranks counted as the devices they stand for.
    fn counted(&self, changes: CostChanges) -> Result<CostChanges, InputError> {
        let Some(num_ranks) = changes.num_ranks else {
            return Ok(changes);
        };
        let share = match &self.kind {
            Kind::Profile { .. } => ModelShare::default(),
            Kind::Described { share, .. } => *share,
        };
        let devices_per_rank = share.devices_per_rank();
        let of_ranks = num_ranks.saturating_mul(devices_per_rank);
        match changes.num_devices {
            Some(num_devices) if num_devices != of_ranks => Err(InputError::DevicesAndRanks {
                num_devices,
                num_ranks,
                devices_per_rank,
            }),
            _ => Ok(CostChanges {
                num_devices: Some(of_ranks),
                ..changes
            }),
        }
    }
}

/// The families and the choices for activations that were chosen of those that a profile has costs of.
fn choices(profile: &Profile, changes: CostChanges) -> Result<ChosenStrategies, ProfileError> {
    let kinds: Vec<StrategyKind> = profile.kinds().collect();
    let unknown = |kind: StrategyKind| {
        let known: Vec<String> = kinds.iter().map(StrategyKind::to_string).collect();
        let known = known.join("; ");
        ProfileError::UnknownKind { kind, known }
    };
    let first = kinds.first().copied();
    let first = first.unwrap_or(StrategyKind::ulysses(Activations::Keep));
    let families: Vec<StrategyFamily> = kinds.iter().map(|kind| kind.exchange.family()).collect();
    let families = changes.strategies.unwrap_or_default().among(&families);
    let families = families.map_err(|family| {
        let exchange = match family {
            StrategyFamily::Ulysses => Exchange::Ulysses,
            StrategyFamily::Ring => Exchange::Ring,
            // Of whatever places; no profile lists as few as one.
            StrategyFamily::Hybrid => Exchange::UlyssesRing { ring: Degree::ONE },
        };
        unknown(StrategyKind { exchange, ..first })
    })?;
    let activations: Vec<Activations> = kinds.iter().map(|kind| kind.activations).collect();
    let activations = changes.activations.unwrap_or_default().among(&activations);
    let activations = activations.map_err(|choice| {
        unknown(StrategyKind {
            activations: choice,
            ..first
        })
    })?;
    Ok(ChosenStrategies {
        families,
        activations,
    })
}

/// The devices of a profile.
fn devices(path: &Path, profile: &Profile, changes: CostChanges) -> Result<Cluster, InputError> {
    let cluster = profile.cluster(changes.num_devices);
    let cluster = cluster.map_err(|error| InputError::profile(path, error))?;
    let Some(memory) = changes.memory else {
        return Ok(cluster);
    };
    with_memory(&cluster, memory).map_err(|error| InputError::profile(path, error.into()))
}

fn described(
    source: &ClusterSource,
    analytic: &AnalyticModel,
    context: Tokens,
    changes: CostChanges,
    degrees: Option<&[Degree]>,
) -> Result<Costs, InputError> {
    let (architecture, hardware) = (analytic.architecture(), analytic.hardware());
    let in_cluster = |error| source.error(error);
    let cluster = analytic.cluster().map_err(in_cluster)?;
    let model = analytic.model().map_err(|error| InputError::Costs {
        path: source.path().to_owned(),
        error,
    })?;
    let reach = model.costs().check_reach(context);
    reach.map_err(|error| InputError::Costs {
        path: source.path().to_owned(),
        error,
    })?;
    let share = analytic.share();
    // A profile can hold only equal devices of any number, and what errors say of other numbers is for such.
    let equal = AnalyticModel::new(architecture.clone(), hardware.without_other_devices())
        .with_logits(analytic.logits());
    let equal = equal.with_share(share).map_err(InputError::Share)?;
    let profile = equal.profile(context.0).map_err(in_cluster)?;
    let known = analytic.activations();
    let activations = changes.activations.unwrap_or_default().among(&known);
    let activations = activations.map_err(|_| InputError::NoHostLink {
        cluster: hardware.name().to_owned(),
    })?;
    let families = changes.strategies.unwrap_or_default();
    let families: Vec<StrategyFamily> = families.listed_of(&StrategyFamily::ALL).collect();
    let chosen = ChosenStrategies {
        families,
        activations,
    };
    Ok(Costs {
        name: shown(architecture.name()).to_string(),
        model,
        space: match degrees {
            Some(degrees) => chosen_of_described(degrees, analytic, &chosen)?,
            None => chosen.space(analytic, None).map_err(InputError::NoDegree)?,
        },
        cluster,
        share,
        context,
        num_layers: Some(architecture.num_layers()),
        transport: share
            .is_whole()
            .then(|| Transport::new(hardware, analytic.gathered_bytes())),
        other_sizes: OtherSizes::Described(Box::new(equal), chosen),
        profile,
        degrees: degrees.map(<[Degree]>::to_vec),
    })
}

impl Costs {
    /// The same costs as a profile; of a described cluster without the devices that are unlike the others, and without
    /// rings.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Layers of the model; a usual number where a profile doesn't say.
    pub fn usual_num_layers(&self) -> u32 {
        self.num_layers.unwrap_or(USUAL_LAYERS)
    }

    /// All devices, of all ranks.
    pub fn num_devices(&self) -> u32 {
        self.cluster.num_devices() * self.share.devices_per_rank()
    }

    /// The costs of the parts of a step of a model of so many layers, where a micro-batch takes `overhead` beside them.
    ///
    /// # Errors
    ///
    /// There is no layer.
    pub fn step_costs(
        &self,
        num_layers: u32,
        overhead: Seconds,
    ) -> Result<StepCosts<'_>, SimError> {
        let volume = self.other_sizes.token_volume();
        let costs = StepCosts::measured(&self.model, num_layers, 0.0)?.with_token_volume(volume);
        Ok(match &self.transport {
            None => costs,
            Some(transport) => costs
                .over_links(transport.links, transport.sharded, overhead)
                .with_exchange_efficiency(transport.exchange_efficiency)
                .with_host_link(transport.host),
        })
    }
}

impl Transport {
    fn new(hardware: &Hardware, sent_bytes: f64) -> Self {
        let sent = Bytes::from_f64_ceil(sent_bytes).unwrap_or(Bytes(u64::MAX));
        Transport {
            cluster: hardware.name().to_owned(),
            links: hardware.links(),
            exchange_efficiency: hardware.exchange_efficiency(),
            host: hardware.host_link(),
            sharded: ShardedBytes {
                parameters: sent,
                gradients: sent,
            },
        }
    }
}

fn with_memory(cluster: &Cluster, memory: Bytes) -> Result<Cluster, CoreError> {
    let nodes = (0..cluster.num_nodes()).map(|node| {
        let ranks = cluster.node_ranks(node).unwrap_or(0..0);
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let changed = devices.iter().map(|device| {
            Device::new(memory, device.speed()).with_host_memory(device.host_memory())
        });
        changed.collect()
    });
    Cluster::from_nodes(nodes.collect())
}
