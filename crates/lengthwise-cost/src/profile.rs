//! Profile files: the measured costs of one model on one kind of cluster.

use std::path::Path;

use lengthwise_core::{Bytes, Cluster, Degree, Device, Seconds, Speed, StrategySpace, Tokens};
use serde::{Deserialize, Serialize};

use crate::{
    CoreSharing, FitReport, FittedCosts, FittedModel, MeasuredFor, Measurement, PerDegree,
    ProfileError, StepModel,
};

/// The measured costs of one model on one kind of cluster, as a TOML file holds them.
///
/// ```
/// let profile = lengthwise_cost::Profile::from_toml(r#"
///     name = "toy"
///     context_tokens = 4096
///
///     [cluster]
///     num_devices = 4
///     devices_per_node = 4
///     memory_gib = 1.0
///
///     [model]
///     num_heads = 8
///     recompute = true
///
///     [time]
///     quadratic_s_per_token2 = 1e-9
///     linear_s_per_token = 1e-6
///     micro_batch_overhead_s = 0.01
///
///     [exchange]
///     bytes_per_token = 65536
///     one_node_bandwidth_bytes_per_s = { 2 = 8e9, 4 = 6e9 }
///
///     [memory]
///     activation_bytes_per_token = 20000
///     sharded_bytes = 1e9
/// "#)?;
/// let cluster = profile.cluster(None)?;
/// let model = profile.model(&cluster)?;
/// assert_eq!(profile.space(&cluster)?.degrees().len(), 4);
/// assert_eq!(model.costs().fixed_memory_bytes, 0.25e9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What reports call it.
    pub name: String,
    /// No sequence is longer.
    pub context_tokens: u64,
    /// What it was measured on.
    pub cluster: ClusterProfile,
    /// The degrees that are possible.
    pub model: ModelProfile,
    /// Computation.
    pub time: TimeProfile,
    /// Communication inside a group.
    pub exchange: ExchangeProfile,
    /// What devices hold.
    pub memory: MemoryProfile,
    /// What was measured; published profiles don't say.
    pub measured_for: Option<MeasuredFor>,
    /// How well the model fits what was measured.
    pub fit: Option<FitReport>,
    /// All that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
}

/// The devices a profile was measured on: equal ones, or nodes listed one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ClusterProfile {
    /// Equal devices.
    Equal {
        /// All of them.
        num_devices: u32,
        /// On each node; the last takes what is left.
        devices_per_node: u32,
        /// Of each device.
        memory_gib: f64,
        /// Processor cores that the devices share, where they are ranks of one machine.
        num_cores: Option<u32>,
    },
    /// Nodes of different kinds.
    Mixed {
        /// Equal nodes in a row, kind by kind.
        nodes: Vec<NodeProfile>,
    },
}

/// Equal nodes in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeProfile {
    /// How many of them.
    pub num_nodes: u32,
    /// On each.
    pub devices_per_node: u32,
    /// Of each device.
    pub memory_gib: f64,
    /// Of each device, beside the one that times were measured on.
    #[serde(default = "nominal")]
    pub speed: f64,
}

/// What a model allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProfile {
    /// Query heads: the largest degree, and what costs time where a degree does not divide it.
    pub num_heads: Option<u32>,
    /// The degrees to plan with, where not all up to `num_heads`.
    pub degrees: Option<Vec<u32>>,
    /// Whether activations are recomputed.
    #[serde(default)]
    pub recompute: bool,
    /// Whether attention takes no longer where a degree does not divide `num_heads`, as on shared cores: a rank with
    /// fewer heads leaves its turns to the others.
    #[serde(default)]
    pub attention_divides_evenly: bool,
}

/// What computing takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeProfile {
    /// Attention: for each square of a sequence's tokens, on one device.
    pub quadratic_s_per_token2: f64,
    /// All else: for each token, on one device.
    pub linear_s_per_token: f64,
    /// Whatever a micro-batch holds.
    pub micro_batch_overhead_s: f64,
    /// What a step takes beside its micro-batches; planners don't count it, as no plan changes it.
    #[serde(default)]
    pub step_overhead_s: f64,
}

/// What a group's exchanges take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeProfile {
    /// What all exchanges of a step pass on for each token, over the group's devices together.
    pub bytes_per_token: f64,
    /// What each device of a group on one node passes on, by degree.
    #[serde(default)]
    pub one_node_bandwidth_bytes_per_s: PerDegree,
    /// The same for groups on several nodes; where missing, the figures of one node hold.
    #[serde(default)]
    pub many_nodes_bandwidth_bytes_per_s: PerDegree,
}

/// What devices hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryProfile {
    /// For each token of a sequence, over its group's devices together.
    pub activation_bytes_per_token: f64,
    /// The same by degree, where devices hold more than their share.
    #[serde(default, skip_serializing_if = "PerDegree::is_empty")]
    pub activation_bytes_per_token_by_degree: PerDegree,
    /// Parameters, gradients and optimiser state, over the cluster's devices together.
    pub sharded_bytes: f64,
    /// What every device holds beside.
    #[serde(default)]
    pub fixed_bytes: f64,
    /// What devices were seen to hold for each of their own tokens; the figures above are what they may.
    pub measured_bytes_per_local_token: Option<f64>,
    /// What they were seen to hold for each sequence.
    pub measured_bytes_per_sequence: Option<f64>,
}

fn nominal() -> f64 {
    Speed::NOMINAL.get()
}

impl Profile {
    /// Reads a profile file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no TOML, or lacks or misspells a key.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = std::fs::read_to_string(path).map_err(|source| ProfileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// Reads a profile from the text of its file.
    ///
    /// # Errors
    ///
    /// The text is no TOML, lacks or misspells a key, or a value is out of range.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile: Profile = toml::from_str(text)?;
        profile.check_figures()?;
        let cluster = profile.cluster(None)?;
        let space = profile.space(&cluster)?;
        profile.check_degrees(&space)?;
        profile.model(&cluster)?;
        Ok(profile)
    }

    fn check_figures(&self) -> Result<(), ProfileError> {
        let (time, memory) = (&self.time, &self.memory);
        for (key, value) in [
            ("time.quadratic_s_per_token2", time.quadratic_s_per_token2),
            ("time.linear_s_per_token", time.linear_s_per_token),
            ("time.micro_batch_overhead_s", time.micro_batch_overhead_s),
            ("time.step_overhead_s", time.step_overhead_s),
            ("exchange.bytes_per_token", self.exchange.bytes_per_token),
            (
                "memory.activation_bytes_per_token",
                memory.activation_bytes_per_token,
            ),
            ("memory.sharded_bytes", memory.sharded_bytes),
            ("memory.fixed_bytes", memory.fixed_bytes),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ProfileError::BadFigure { key, value });
            }
        }
        Ok(())
    }

    /// Checks that groups that exchange are known to take time for it.
    ///
    /// Beyond the degrees of a table its nearest one holds, so one entry will do for published figures. What was measured
    /// must cover all that may be planned.
    ///
    /// # Errors
    ///
    /// The degree that is missing.
    pub fn check_degrees(&self, space: &StrategySpace) -> Result<(), ProfileError> {
        let exchange = &self.exchange;
        let above_one = space.degrees().filter(|&degree| degree > Degree::ONE);
        let tables = [
            &exchange.one_node_bandwidth_bytes_per_s,
            &exchange.many_nodes_bandwidth_bytes_per_s,
        ];
        let missing = |degree: Degree, rule| ProfileError::MissingDegree {
            key: "exchange.one_node_bandwidth_bytes_per_s",
            degree: degree.get(),
            rule,
        };
        let mut above_one = above_one.peekable();
        let Some(&smallest) = above_one.peek() else {
            return Ok(());
        };
        if exchange.bytes_per_token > 0.0 && tables.iter().all(|table| table.is_empty()) {
            let rule = "nor for any other; groups of more than one device exchange";
            return Err(missing(smallest, rule));
        }
        let largest = above_one.last().unwrap_or(smallest);
        let has = |degree| {
            let mut entries = tables.iter().flat_map(|table| table.iter());
            entries.any(|(of, _)| of == degree)
        };
        match [smallest, largest].into_iter().find(|&degree| !has(degree)) {
            Some(degree) if self.measured_for.is_some() => Err(missing(
                degree,
                "the smallest or largest that exchanges; those between follow from them",
            )),
            _ => Ok(()),
        }
    }

    /// The text of its file.
    ///
    /// # Errors
    ///
    /// Some number can't be written in TOML.
    pub fn to_toml(&self) -> Result<String, ProfileError> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// The cluster of the profile, or as many of its devices as asked for: more of equal ones, fewer of any.
    ///
    /// # Errors
    ///
    /// No device, a value out of range, or more devices than a list of nodes has.
    pub fn cluster(&self, num_devices: Option<u32>) -> Result<Cluster, ProfileError> {
        match &self.cluster {
            ClusterProfile::Equal {
                num_devices: measured,
                devices_per_node,
                memory_gib,
                ..
            } => {
                let device = Device::new(gib("cluster.memory_gib", *memory_gib)?, Speed::NOMINAL);
                let num_devices = num_devices.unwrap_or(*measured);
                Ok(Cluster::with_num_devices(
                    num_devices,
                    *devices_per_node,
                    device,
                )?)
            }
            ClusterProfile::Mixed { nodes } => {
                let mut left = num_devices.map_or(u64::MAX, u64::from);
                let mut list = Vec::new();
                for kind in nodes {
                    let memory = gib("cluster.nodes.memory_gib", kind.memory_gib)?;
                    let device = Device::new(memory, Speed::new(kind.speed)?);
                    for _ in 0..kind.num_nodes {
                        let count = left.min(kind.devices_per_node.into());
                        left -= count;
                        if count > 0 || kind.devices_per_node == 0 {
                            list.push(vec![device; count as usize]);
                        }
                    }
                }
                if let Some(asked) = num_devices.filter(|_| left > 0) {
                    let num_devices = u64::from(asked) - left;
                    return Err(ProfileError::TooFewDevices { asked, num_devices });
                }
                Ok(Cluster::from_nodes(list)?)
            }
        }
    }

    /// The strategies that the model and the size of `cluster` leave.
    ///
    /// # Errors
    ///
    /// Neither heads nor degrees are given, or no degree is left.
    pub fn space(&self, cluster: &Cluster) -> Result<StrategySpace, ProfileError> {
        let recompute = self.model.recompute;
        let space = match (&self.model.degrees, self.model.num_heads) {
            (Some(degrees), _) => {
                let degrees: Result<Vec<Degree>, _> =
                    degrees.iter().map(|&degree| Degree::new(degree)).collect();
                StrategySpace::ulysses(&degrees?, recompute)?
            }
            (None, Some(num_heads)) => {
                StrategySpace::ulysses_up_to(num_heads.min(cluster.num_devices()), recompute)?
            }
            (None, None) => return Err(ProfileError::NoDegrees),
        };
        Ok(space.limited_to(cluster.num_devices())?)
    }

    /// The cost model on `cluster`, over whose devices the sharded memory is divided.
    ///
    /// # Errors
    ///
    /// A coefficient that is negative, infinite or not a number.
    pub fn model(&self, cluster: &Cluster) -> Result<FittedModel, ProfileError> {
        let exchange = |bandwidths: &PerDegree| {
            let entries = bandwidths.iter().map(|(degree, bandwidth)| {
                let group_bandwidth = bandwidth * f64::from(degree.get());
                (degree, self.exchange.bytes_per_token / group_bandwidth)
            });
            entries.collect()
        };
        let num_devices = f64::from(cluster.num_devices());
        let memory = &self.memory;
        let by_degree = memory.activation_bytes_per_token_by_degree.iter();
        let mut memory_bytes_per_token: Vec<_> = by_degree
            .map(|(degree, bytes)| (degree, bytes / f64::from(degree.get())))
            .collect();
        if memory_bytes_per_token.is_empty() {
            memory_bytes_per_token = vec![(Degree::ONE, memory.activation_bytes_per_token)];
        }
        let num_heads = self.model.num_heads;
        Ok(FittedModel::new(FittedCosts {
            quadratic_s_per_token2: self.time.quadratic_s_per_token2,
            linear_s_per_token: self.time.linear_s_per_token,
            num_heads: num_heads.filter(|_| !self.model.attention_divides_evenly),
            exchange_s_per_token: exchange(&self.exchange.one_node_bandwidth_bytes_per_s),
            many_nodes_exchange_s_per_token: exchange(
                &self.exchange.many_nodes_bandwidth_bytes_per_s,
            ),
            memory_bytes_per_token,
            fixed_memory_bytes: memory.sharded_bytes / num_devices + memory.fixed_bytes,
            micro_batch_overhead_s: self.time.micro_batch_overhead_s,
        })?)
    }

    /// What steps take on `cluster`.
    ///
    /// # Errors
    ///
    /// As [`Profile::model`].
    pub fn step_model(&self, cluster: &Cluster) -> Result<StepModel, ProfileError> {
        let num_ranks = cluster.num_devices();
        let sharing = match &self.cluster {
            ClusterProfile::Equal {
                num_cores: Some(num_cores),
                ..
            } => CoreSharing::new(num_ranks, *num_cores),
            _ => CoreSharing::apart(num_ranks),
        };
        Ok(StepModel {
            cost: self.model(cluster)?,
            step_overhead: Seconds::new(self.time.step_overhead_s)?,
            sharing,
        })
    }

    /// Checks that it was measured for what is to be trained.
    ///
    /// # Errors
    ///
    /// It doesn't say what it was measured for, or something differs; the error names both keys.
    pub fn check_measured_for(&self, wanted: &MeasuredFor) -> Result<(), ProfileError> {
        let measured = self.measured_for.as_ref();
        measured
            .ok_or(ProfileError::MeasuredForNothing)?
            .check(wanted)
    }

    /// The longest sequence it holds for.
    pub fn context(&self) -> Tokens {
        Tokens(self.context_tokens)
    }
}

fn gib(key: &'static str, value: f64) -> Result<Bytes, ProfileError> {
    let bytes = value * (1u64 << 30) as f64;
    Bytes::from_f64_ceil(bytes).ok_or(ProfileError::BadMemory { key, value })
}
