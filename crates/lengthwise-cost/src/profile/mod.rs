//! Profile files: the measured costs of one model on one kind of cluster.

mod cluster;
mod fitted;
mod kind;
mod unversioned;
mod volume;

use std::path::Path;

use lengthwise_core::limits::{SEQ_LEN, SEQUENCE_BYTES, SEQUENCE_S};
use lengthwise_core::{
    Activations, Cluster, CoreError, Degree, Exchange, Seconds, SpaceLimits, Strategy,
    StrategyFamily, StrategyKind, StrategySpace, Tokens,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use cluster::{ClusterProfile, DeviceProfile, NodeProfile};
pub use kind::{HostProfile, KindProfile, RingProfile};

use crate::format::FormatVersion;
use crate::text_file::read_text;
use crate::{
    CoreSharing, FitReport, FittedCosts, FittedModel, MeasuredFor, Measurement, ProfileError,
    StepModel,
};

/// The measured costs of one model on one kind of cluster, as a TOML file holds them.
///
/// ```
/// let profile = lengthwise_cost::Profile::from_toml(r#"
///     version = 1
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
///     sharded_bytes = 1e9
///
///     [overhead]
///     micro_batch_s = 0.01
///
///     [[costs]]
///     exchange = "ulysses"
///     activations = "recompute"
///     quadratic_s_per_token2 = 1e-9
///     linear_s_per_token = 1e-6
///     exchanged_bytes_per_token = 65536
///     one_node_bandwidth_bytes_per_s = { 2 = 8e9, 4 = 6e9 }
///     memory_bytes_per_token = 20000
/// "#)?;
/// let cluster = profile.cluster(None)?;
/// let model = profile.model(&cluster)?;
/// assert_eq!(profile.space(&cluster)?.strategies().len(), 4);
/// assert_eq!(model.costs().fixed_memory_bytes, 0.25e9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Of the file's format.
    pub version: FormatVersion,
    /// Its name in reports.
    pub name: String,
    /// No sequence is longer.
    pub context_tokens: u64,
    /// The cluster it was measured on.
    pub cluster: ClusterProfile,
    /// The limits of the model, and its share on devices.
    pub model: ModelProfile,
    /// The time of micro-batches and steps whatever they hold.
    pub overhead: OverheadProfile,
    /// The costs of sequences, one entry for each kind of strategy; at least one.
    pub costs: Vec<KindProfile>,
    /// The model measured; published profiles don't say.
    pub measured_for: Option<MeasuredFor>,
    /// How well the model fits what was measured.
    pub fit: Option<FitReport>,
    /// All that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
}

/// The limits of a model, and its share on devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProfile {
    /// Query heads: the largest degree, and what costs time where a degree does not divide it.
    pub num_heads: Option<u32>,
    /// The degrees to plan with, where not all up to `num_heads`.
    pub degrees: Option<Vec<u32>>,
    /// Whether attention takes no longer where a degree does not divide `num_heads`, as on shared cores: a rank with
    /// fewer heads leaves its turns to the others.
    #[serde(default)]
    pub attention_divides_evenly: bool,
    /// Parameters, gradients and optimiser state, over the cluster's devices together.
    pub sharded_bytes: f64,
    /// The bytes that every device holds in addition.
    #[serde(default)]
    pub fixed_bytes: f64,
}

/// The costs to be paid whatever sequences there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverheadProfile {
    /// By every micro-batch.
    pub micro_batch_s: f64,
    /// By every step; planners don't count it, as no plan changes it.
    #[serde(default)]
    pub step_s: f64,
}

/// The version of a file.
#[derive(Deserialize)]
struct Versioned {
    version: Option<u32>,
    costs: Option<IgnoredAny>,
}

impl Profile {
    /// Reads a profile file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no TOML, or lacks or misspells a key.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = read_text(path).map_err(|source| ProfileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// Reads a profile from the text of its file, of this version or from before there were versions.
    ///
    /// # Errors
    ///
    /// The text is no TOML, lacks or misspells a key, a value is out of range, or it is of a later version.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let file: Versioned = toml::from_str(text)?;
        let profile: Profile = if FormatVersion::is_current(file.version)? {
            toml::from_str(text)?
        } else if file.costs.is_some() {
            return Err(ProfileError::NoVersion);
        } else {
            toml::from_str::<unversioned::Profile>(text)?.try_into()?
        };
        profile.check_figures()?;
        if !SEQ_LEN.holds(profile.context_tokens) {
            let context_tokens = profile.context_tokens;
            return Err(ProfileError::BadContext { context_tokens });
        }
        let cluster = profile.cluster(None)?;
        let space = profile.space(&cluster)?;
        profile.check_degrees(&space)?;
        profile.model(&cluster)?;
        Ok(profile)
    }

    fn check_figures(&self) -> Result<(), ProfileError> {
        for (key, value) in [
            ("overhead.micro_batch_s", self.overhead.micro_batch_s),
            ("overhead.step_s", self.overhead.step_s),
            ("model.sharded_bytes", self.model.sharded_bytes),
            ("model.fixed_bytes", self.model.fixed_bytes),
        ] {
            check_figure(key, value)?;
        }
        for (position, costs) in self.costs.iter().enumerate() {
            costs.check_figures()?;
            let kind = costs.kind();
            if self.costs[..position].iter().any(|of| of.kind() == kind) {
                return Err(ProfileError::KindTwice { kind });
            }
        }
        if self.costs.is_empty() {
            return Err(ProfileError::NoCosts);
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
    /// The degree that is missing, or the kind of strategy.
    pub fn check_degrees(&self, space: &StrategySpace) -> Result<(), ProfileError> {
        let mut unpriced = space.strategies().iter();
        if let Some(strategy) = unpriced.find(|strategy| self.kind(strategy.kind()).is_none()) {
            let kind = strategy.kind();
            let known: Vec<String> = self.kinds().map(|kind| kind.to_string()).collect();
            let known = known.join("; ");
            return Err(ProfileError::UnknownKind { kind, known });
        }
        self.costs.iter().try_for_each(|costs| {
            let strategies = space.strategies().iter();
            let of_kind = strategies.filter(|strategy| strategy.kind() == costs.kind());
            let degrees = of_kind.map(|strategy| strategy.degree());
            costs.check_degrees(degrees, self.measured_for.is_some())
        })
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
        self.cluster.cluster(num_devices)
    }

    /// The kinds of strategy that it has costs of.
    pub fn kinds(&self) -> impl Iterator<Item = StrategyKind> + '_ {
        self.costs.iter().map(KindProfile::kind)
    }

    /// The costs of a kind of strategy.
    pub fn kind(&self, kind: StrategyKind) -> Option<&KindProfile> {
        self.costs.iter().find(|costs| costs.kind() == kind)
    }

    /// The strategies that the model and the size of `cluster` leave.
    ///
    /// # Errors
    ///
    /// Neither heads nor degrees are given, or no degree is left.
    pub fn space(&self, cluster: &Cluster) -> Result<StrategySpace, ProfileError> {
        let degrees: Option<Vec<Degree>> = match (&self.model.degrees, self.model.num_heads) {
            (Some(degrees), _) => Some(
                degrees
                    .iter()
                    .map(|&degree| Degree::new(degree))
                    .collect::<Result<_, _>>()?,
            ),
            (None, Some(_)) => None,
            (None, None) => return Err(ProfileError::NoDegrees),
        };
        if let Some(degrees) = degrees {
            return Ok(self.space_of(&degrees)?.limited_to(cluster.num_devices())?);
        }
        let families: Vec<StrategyFamily> = self.kinds().map(|of| of.exchange.family()).collect();
        let activations: Vec<Activations> = self.kinds().map(|of| of.activations).collect();
        let per_node = cluster.node_ranks(0).map_or(1, |ranks| ranks.len() as u32);
        let limits = SpaceLimits {
            num_heads: self.model.num_heads,
            ranks_per_node: per_node,
            num_ranks: cluster.num_devices(),
        };
        let worth_a_choice = StrategySpace::chosen(&families, &activations, limits, None)?;
        self.priced(worth_a_choice.strategies().iter().copied())
    }

    /// Those of some strategies that it has costs of.
    fn priced(
        &self,
        strategies: impl IntoIterator<Item = Strategy>,
    ) -> Result<StrategySpace, ProfileError> {
        let strategies = strategies.into_iter();
        let priced = strategies.filter(|&strategy| self.prices(strategy));
        Ok(StrategySpace::new(priced)?)
    }

    /// Whether it has costs of a strategy. Where rings were measured, groups that exchange heads may not have been, but for
    /// ranks on their own.
    fn prices(&self, strategy: Strategy) -> bool {
        let may_lack_heads = self.measured_for.is_some()
            && self.kinds().any(|kind| kind.exchange != Exchange::Ulysses)
            && strategy.kind().exchange == Exchange::Ulysses
            && strategy.degree() > Degree::ONE;
        let of_kind = self.kind(strategy.kind());
        of_kind.is_some_and(|costs| !may_lack_heads || costs.knows_exchanges())
    }

    /// The strategies of these degrees, of all kinds that it has costs of.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn space_of(&self, degrees: &[Degree]) -> Result<StrategySpace, CoreError> {
        let strategies = self.kinds().flat_map(|kind| {
            let degrees = degrees.iter();
            degrees.filter_map(move |&degree| of_kind(kind, degree))
        });
        StrategySpace::new(strategies.filter(|&strategy| self.prices(strategy)))
    }

    /// The cost model on `cluster`, over whose devices the sharded memory is divided.
    ///
    /// # Errors
    ///
    /// A coefficient that is negative, infinite or not a number.
    pub fn model(&self, cluster: &Cluster) -> Result<FittedModel, ProfileError> {
        let num_devices = f64::from(cluster.num_devices());
        let ModelProfile {
            num_heads,
            attention_divides_evenly,
            sharded_bytes,
            fixed_bytes,
            ..
        } = self.model;
        let kinds = self.costs.iter().map(|costs| (costs.kind(), costs.costs()));
        Ok(FittedModel::new(FittedCosts {
            num_heads: num_heads.filter(|_| !attention_divides_evenly),
            fixed_memory_bytes: sharded_bytes / num_devices + fixed_bytes,
            micro_batch_overhead_s: self.overhead.micro_batch_s,
            kinds: kinds.collect(),
        })?)
    }

    /// The times of steps on `cluster`.
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
            step_overhead: Seconds::new(self.overhead.step_s)?,
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

/// The strategy of a kind that has this degree, if there is one.
fn of_kind(kind: StrategyKind, degree: Degree) -> Option<Strategy> {
    let activations = kind.activations;
    match kind.exchange {
        Exchange::Ulysses => Some(Strategy::ulysses(degree, activations)),
        // A ring of one rank exchanges as a rank on its own.
        Exchange::Ring => (degree > Degree::ONE).then(|| Strategy::ring(degree, activations)),
        Exchange::UlyssesRing { ring } => {
            let ulysses = degree.get() / ring.get();
            let fits = degree.get().is_multiple_of(ring.get()) && ulysses > 1;
            let ulysses = fits.then(|| Degree::new(ulysses).ok()).flatten()?;
            Strategy::new(ulysses, ring, activations).ok()
        }
    }
}

/// Checks a figure in seconds or bytes: what is beyond these could not be summed up.
fn check_figure(key: &'static str, value: f64) -> Result<(), ProfileError> {
    let most = if key.contains("bytes") {
        SEQUENCE_BYTES
    } else {
        SEQUENCE_S
    };
    if (0.0..=most).contains(&value) {
        Ok(())
    } else {
        Err(ProfileError::BadFigure { key, value, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strategies of a kind at degrees 1 to 8.
    fn strategies(exchange: Exchange) -> Vec<String> {
        let kind = StrategyKind {
            exchange,
            activations: Activations::Recompute,
        };
        let degrees = (1..=8).map(|degree| Degree::new(degree).unwrap());
        let found = degrees.filter_map(|degree| of_kind(kind, degree));
        found.map(|strategy| strategy.to_string()).collect()
    }

    #[test]
    fn a_kind_has_the_degrees_that_it_can_split() {
        let names = strategies(Exchange::Ring);
        assert_eq!(names.len(), 7);
        assert_eq!((&*names[0], &*names[6]), ("1x2 recompute", "1x8 recompute"));
        assert_eq!(strategies(Exchange::Ulysses).len(), 8);
        let ring = Degree::new(2).unwrap();
        let names = strategies(Exchange::UlyssesRing { ring });
        assert_eq!(names, ["2x2 recompute", "3x2 recompute", "4x2 recompute"]);
    }
}
