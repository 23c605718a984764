//! Costs, ready to plan with: measured ones from a profile, or those that follow from a model and a cluster.

use std::path::{Path, PathBuf};

use lengthwise_core::{Bytes, Cluster, CoreError, Degree, Device, Seconds, StrategySpace, Tokens};
use lengthwise_cost::{
    AnalyticModel, ClusterLinks, ExchangeEfficiency, FittedModel, Hardware, Profile, ProfileError,
};
use lengthwise_sim::{ShardedBytes, SimError, StepCosts};

use crate::InputError;
use crate::cluster_source::ClusterSource;
use crate::degrees::chosen_space;
use crate::model_source::ModelSource;

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
    },
}

/// What is changed about costs as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostChanges {
    /// How many devices there are, in nodes like those of the profile or cluster.
    pub num_devices: Option<u32>,
    /// The longest sequence.
    pub context: Option<Tokens>,
    /// All that a device has.
    pub memory: Option<Bytes>,
}

/// Costs, ready to plan with.
#[derive(Clone, Debug)]
pub struct Costs {
    /// The profile's or the model's.
    pub name: String,
    /// The devices.
    pub cluster: Cluster,
    /// What sequences cost there.
    pub model: FittedModel,
    /// What planners choose from.
    pub space: StrategySpace,
    /// The longest sequence.
    pub context: Tokens,
    /// Layers of the model; a profile doesn't say how many it has.
    pub num_layers: Option<u32>,
    /// What groups exchange for a token, all its ranks together.
    pub exchange_bytes_per_token: f64,
    /// What everything moves over; `None` where times were measured.
    pub transport: Option<Transport>,
    /// What stands for other numbers of devices.
    pub(crate) profile: Profile,
    /// The degrees that were asked for.
    pub(crate) degrees: Option<Vec<Degree>>,
}

/// What a described cluster says of all that travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Transport {
    /// The cluster's name.
    pub cluster: String,
    /// Its links.
    pub links: ClusterLinks,
    /// What exchanges reach of them.
    pub exchange_efficiency: ExchangeEfficiency,
    /// What ranks gather and scatter.
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
        Ok(CostSource {
            kind: Kind::Described { cluster, model },
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
        match &self.kind {
            Kind::Profile {
                path,
                profile,
                cluster,
            } => {
                let (cluster, transport) = match cluster {
                    None => (devices(path, profile, changes)?, None),
                    Some(source) => {
                        let hardware = source.hardware(changes)?;
                        let sent = profile.model.sharded_bytes * SENT_PART;
                        let transport = Transport::new(&hardware, sent);
                        (source.cluster(&hardware)?, Some(transport))
                    }
                };
                let in_profile = |error| InputError::profile(path, error);
                Ok(Costs {
                    name: profile.name.clone(),
                    model: profile.model(&cluster).map_err(in_profile)?,
                    space: match degrees {
                        Some(degrees) => chosen_space(degrees, profile, &cluster)?,
                        None => profile.space(&cluster).map_err(in_profile)?,
                    },
                    cluster,
                    context,
                    num_layers: None,
                    exchange_bytes_per_token: profile.exchanged_bytes_per_token(),
                    transport,
                    profile: (**profile).clone(),
                    degrees: degrees.map(<[Degree]>::to_vec),
                })
            }
            Kind::Described { cluster, model } => {
                let hardware = cluster.hardware(changes)?;
                let analytic = AnalyticModel::new(model.architecture(context), hardware);
                described(cluster, &analytic, context, degrees)
            }
        }
    }
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
    degrees: Option<&[Degree]>,
) -> Result<Costs, InputError> {
    let (architecture, hardware) = (analytic.architecture(), analytic.hardware());
    // What errors say of other numbers of devices is for equal ones, which a profile can hold.
    let equal = AnalyticModel::new(architecture.clone(), hardware.without_other_devices());
    let in_cluster = |error| source.error(error);
    let profile = equal.profile(context.0).map_err(in_cluster)?;
    let cluster = source.cluster(hardware)?;
    let model = analytic.model().map_err(|error| InputError::Costs {
        path: source.path().to_owned(),
        error,
    })?;
    Ok(Costs {
        name: architecture.name().to_owned(),
        model,
        space: match degrees {
            Some(degrees) => chosen_space(degrees, &profile, &cluster)?,
            None => analytic.space().map_err(in_cluster)?,
        },
        cluster,
        context,
        num_layers: Some(architecture.num_layers()),
        exchange_bytes_per_token: analytic.exchange_bytes_per_token(Degree::ONE),
        transport: Some(Transport::new(hardware, analytic.gathered_bytes())),
        profile,
        degrees: degrees.map(<[Degree]>::to_vec),
    })
}

impl Costs {
    /// The same costs as a profile; of a described cluster without the devices that are unlike the others.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Layers of the model; a usual number where a profile doesn't say.
    pub fn usual_num_layers(&self) -> u32 {
        self.num_layers.unwrap_or(USUAL_LAYERS)
    }

    /// What the parts of a step of a model of so many layers cost, where a micro-batch takes `overhead` beside them.
    ///
    /// # Errors
    ///
    /// There is no layer, or the exchange is no number of bytes.
    pub fn step_costs(
        &self,
        num_layers: u32,
        overhead: Seconds,
    ) -> Result<StepCosts<'_>, SimError> {
        let costs = StepCosts::measured(&self.model, num_layers, self.exchange_bytes_per_token)?;
        Ok(match &self.transport {
            None => costs,
            Some(transport) => costs
                .over_links(transport.links, transport.sharded, overhead)
                .with_exchange_efficiency(transport.exchange_efficiency),
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
        let changed = devices
            .iter()
            .map(|device| Device::new(memory, device.speed()));
        changed.collect()
    });
    Cluster::from_nodes(nodes.collect())
}
