//! Faults of measured or written costs.

use std::path::PathBuf;

use lengthwise_core::limits::{BANDWIDTH_BYTES_PER_S, DEVICE_MEMORY, SEQ_LEN};
use lengthwise_core::words::{counted, figure, shown};
use lengthwise_core::{CoreError, StrategyKind, Tokens};
use thiserror::Error;

use crate::format::UnknownVersion;
use crate::hardware::DeviceKind;

/// Costs that can't be.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CostError {
    /// A coefficient that is negative, infinite or not a number.
    #[error("{name} is {}; it must be finite and not negative", figure(*value))]
    BadCoefficient {
        /// The field.
        name: &'static str,
        /// The value given.
        value: f64,
    },
    /// The same for an entry of a table.
    #[error("{name} of degree {degree} is {}; it must be finite and not negative", figure(*value))]
    BadEntry {
        /// The table.
        name: &'static str,
        /// The entry's degree.
        degree: u32,
        /// The value given.
        value: f64,
    },
    /// A table that gives a degree two figures.
    #[error("{name} has two entries for degree {degree}; one is the rule")]
    DegreeTwice {
        /// The table.
        name: &'static str,
        /// The degree.
        degree: u32,
    },
    /// A coefficient by which a sequence that is allowed would cost more than can be summed up.
    #[error(
        "{name} is {}, by which a sequence of {seq_len} tokens, the longest allowed, costs {} {unit}; at most {} can be \
         planned with",
        figure(*value),
        figure(*amount),
        figure(*most)
    )]
    BeyondReach {
        /// The field.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The context.
        seq_len: Tokens,
        /// What it comes to.
        amount: f64,
        /// `s` or `bytes`.
        unit: &'static str,
        /// What can be planned with.
        most: f64,
    },
    /// Measured times that make no model.
    #[error("the measured times can't be fitted; they must be finite and above 0")]
    Unfittable,
    /// A model without attention heads.
    #[error("num_heads is 0; a model has at least one attention head")]
    NoHeads,
}

/// A profile file that can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A measured micro-batch that can't be, by its position.
    #[error("measurement {index}: {rule}")]
    BadMeasurement {
        /// Counted from 0.
        index: usize,
        /// The rule that it breaks.
        rule: String,
    },
    /// Less measurements than what they are to settle.
    #[error(
        "{} are too few for the {needed} costs of what was measured; each needs one, beside those held out",
        counted(*num, "measurement")
    )]
    TooFewMeasurements {
        /// Of those that are not held out.
        num: usize,
        /// Overhead, two for each kind of strategy, and each exchange.
        needed: usize,
    },
    /// The file itself.
    #[error("profile {} can't be read", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not TOML, or a key that is missing, unknown or of the wrong type.
    #[error("the profile is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A number that TOML has no form for.
    #[error("the profile can't be written")]
    Unwritable(#[from] toml::ser::Error),
    /// Memory that is negative, not a number, or beyond counting.
    #[error(
        "{key} is {}; it must be finite, not negative and at most {}",
        figure(*value),
        DEVICE_MEMORY.0 >> 30
    )]
    BadMemory {
        /// The key.
        key: &'static str,
        /// The value given.
        value: f64,
    },
    /// A figure that can't be.
    #[error("{key} is {}; it must be a number from 0 to {}", figure(*value), figure(*most))]
    BadFigure {
        /// The key.
        key: &'static str,
        /// The value given.
        value: f64,
        /// The most it may be.
        most: f64,
    },
    /// A bandwidth at which no exchange would ever end.
    #[error(
        "{key} of degree {degree} is {}; it must be at least {}",
        figure(*value),
        figure(BANDWIDTH_BYTES_PER_S)
    )]
    SlowExchange {
        /// The table.
        key: &'static str,
        /// The entry's degree.
        degree: u32,
        /// The value given.
        value: f64,
    },
    /// Devices that can't be, by the key that says so.
    #[error("{key}: {error}")]
    BadCluster {
        /// The key.
        key: &'static str,
        /// The fault.
        error: CoreError,
    },
    /// A context that no sequence can have.
    #[error("context_tokens is {context_tokens}; it must be {SEQ_LEN}")]
    BadContext {
        /// The value given.
        context_tokens: u64,
    },
    /// A device that its node does not have.
    #[error(
        "cluster.nodes.other_devices has place {place}; nodes have {}, places 0 to {}",
        counted(*devices_per_node, "device"),
        devices_per_node.saturating_sub(1)
    )]
    UnknownPlace {
        /// The place.
        place: u32,
        /// How many devices there are.
        devices_per_node: u32,
    },
    /// A table that leaves the exchange of a degree open.
    #[error("{key} has no entry for degree {degree}, {rule}")]
    MissingDegree {
        /// The table.
        key: &'static str,
        /// The degree.
        degree: u32,
        /// Why it is needed.
        rule: &'static str,
    },
    /// Measurements of another model.
    #[error(
        "{key} is {value}, but {wanted_key} is {wanted}; a profile holds for what was measured"
    )]
    OtherModel {
        /// The key.
        key: &'static str,
        /// The value as measured.
        value: String,
        /// The setting it contradicts.
        wanted_key: &'static str,
        /// The value of the model at hand.
        wanted: String,
    },
    /// A profile that says nothing of what it was measured for.
    #[error(
        "there is no measured_for; training goes by what was measured for the same model and ranks"
    )]
    MeasuredForNothing,
    /// Nothing to plan with.
    #[error(
        "the profile names neither model.num_heads nor model.degrees; one of them must say which degrees there are"
    )]
    NoDegrees,
    /// Listed nodes can't be multiplied.
    #[error("{} were asked for; the nodes the profile lists have {num_devices}", counted(*asked, "device"))]
    TooFewDevices {
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        num_devices: u64,
    },
    /// A file of a later version.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// A file that lacks its version.
    #[error("version is missing; profiles with costs begin with version = 1")]
    NoVersion,
    /// An old file that contradicts itself.
    #[error(
        "model.recompute is {of_model}, but measured_for.recompute is {measured}; costs hold for one of them"
    )]
    TwoActivations {
        /// Whether the costs are said to hold for recomputed activations.
        of_model: bool,
        /// Whether activations were recomputed when they were measured.
        measured: bool,
    },
    /// Nothing is priced.
    #[error("costs is empty; a profile has the costs of at least one kind of strategy")]
    NoCosts,
    /// Activations that go to the host at no known cost.
    #[error(
        "activations is \"host\", and host is missing: what copies to host memory take, and the room there"
    )]
    HostActivations,
    /// Two prices for one thing.
    #[error("costs has two entries for {kind}; one is the rule")]
    KindTwice {
        /// The kind of strategy.
        kind: StrategyKind,
    },
    /// A kind of strategy that has no price.
    #[error("there are no costs of {kind}; the profile has those of {known}")]
    UnknownKind {
        /// The kind asked for.
        kind: StrategyKind,
        /// The kinds there are.
        known: String,
    },
    /// A cost out of range.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// Another value out of range.
    #[error(transparent)]
    Value(#[from] CoreError),
}

/// A description of hardware, or of a model to run there, that can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HardwareError {
    /// The file itself.
    #[error("cluster file {} can't be read", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not TOML, or a key that is missing, unknown or of the wrong type.
    #[error("the cluster file is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// The same for the description of a model.
    #[error("model file {} can't be read", path.display())]
    UnreadableModel {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The same for the description of a model.
    #[error("the model file is not valid: {0}")]
    ModelSyntax(#[source] toml::de::Error),
    /// A value that breaks a rule.
    #[error("{key} is {}; {rule}", shown(value))]
    BadValue {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// The rule for it.
        rule: String,
    },
    /// A key that is needed here.
    #[error("{key} is missing; {rule}")]
    Missing {
        /// The key.
        key: String,
        /// Why it is needed.
        rule: String,
    },
    /// A name without the memory that tells devices apart.
    #[error("device {} is sold with more than one memory, as {meant}", shown(name))]
    AmbiguousDevice {
        /// The name as written.
        name: String,
        /// The devices that it could be.
        meant: String,
    },
    /// A cluster of an unknown name.
    #[error(
        "there is no cluster {}; known by name are DEVICE-NODESxDEVICES, such as h100-8x8, of {}",
        shown(name),
        DeviceKind::names()
    )]
    UnknownCluster {
        /// The name as written.
        name: String,
    },
    /// Another value out of range.
    #[error(transparent)]
    Value(#[from] CoreError),
}

impl HardwareError {
    pub(crate) fn bad(
        key: impl Into<String>,
        value: impl ToString,
        rule: impl Into<String>,
    ) -> Self {
        HardwareError::BadValue {
            key: key.into(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    pub(crate) fn missing(key: impl Into<String>, rule: impl Into<String>) -> Self {
        HardwareError::Missing {
            key: key.into(),
            rule: rule.into(),
        }
    }

    /// Advice for the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            HardwareError::Missing { key, .. } if key == "nic" => {
                Some("write [nic] with per_node, bandwidth_bytes_per_s and latency_s")
            }
            HardwareError::Missing { key, .. } if key.starts_with("other_devices") => {
                Some("write ranks = [3] or nodes = [1], and speed = 0.5 or memory_gib = 20")
            }
            HardwareError::Missing { key, .. } if key == "head_dim" => {
                Some("write head_dim, or a num_heads that divides hidden")
            }
            HardwareError::Missing { .. } => {
                Some("write it, or name a kind: device.kind = \"a100-40\"")
            }
            HardwareError::AmbiguousDevice { .. } => Some("write the one that is meant"),
            HardwareError::BadValue { key, .. } if key.ends_with("memory_fraction") => {
                Some("it is the part of its memory that a device lends to training, such as 0.9")
            }
            HardwareError::BadValue { key, .. } if key.ends_with("efficiency") => {
                Some("it is the part of its peak that a device reaches, such as 0.6")
            }
            HardwareError::BadValue { key, .. } if key.ends_with("speed") => {
                Some("0.5 takes twice as long as the other devices do")
            }
            HardwareError::BadValue { key, .. } if key.ends_with("kind") => Some(
                "leave device.kind out to describe another with peak_flops_per_s and memory_gib",
            ),
            _ => None,
        }
    }
}
