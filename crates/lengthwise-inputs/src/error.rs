//! Errors of what a user handed over.

use std::error::Error as _;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use lengthwise_core::limits::{BATCH_SEQUENCES, SEQ_LEN};
use lengthwise_core::words::{counted, shown};
use lengthwise_core::{Bytes, CoreError, Degree, PlanViolation, Strategy, Tokens};
use lengthwise_cost::format::UnknownVersion;
use lengthwise_cost::{
    CostError, DeviceKind, Hardware, HardwareError, Logits, ModelKind, ProfileError,
};
use lengthwise_data::DataError;
use lengthwise_plan::{MemoryLimit, PlanError};
use thiserror::Error;

use crate::length_source::LengthSource;
use crate::lengths::hint_for_length;
use crate::suggestion::suggestion;

/// An error of what a user handed over.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum InputError {
    /// A file that is not there or can't be read.
    #[error("{what} {name} can't be read: {error}")]
    Unreadable {
        what: &'static str,
        name: String,
        error: std::io::Error,
    },

    /// Lengths in no text.
    #[error("lengths {name} are not text in UTF-8")]
    LengthsNotText { name: String },
    /// Lengths in what begins like JSON and is none.
    #[error("{name} is not valid JSON: {error}")]
    LengthsNotJson {
        name: String,
        error: serde_json::Error,
    },
    /// An object of something else.
    #[error("{name} has no list seq_lens_tokens; lengths are expected there")]
    NoLengthList { name: String },
    /// An empty batch.
    #[error("{name} holds no length; a batch needs at least one sequence")]
    NoLengths { name: String },
    /// Something that stands where a length should.
    #[error(
        "{place}: {} is not a length; lengths are whole numbers of tokens from 1 to {}",
        shown(written),
        SEQ_LEN.most
    )]
    NotALength { place: String, written: String },
    /// A sequence of nothing.
    #[error("{place}: 0 tokens; every sequence needs at least 1")]
    EmptySequence { place: String },
    /// More lengths than a batch may have.
    #[error("{name} holds {num} lengths; a batch may have at most {}", BATCH_SEQUENCES.most)]
    TooManyLengths { name: String, num: usize },
    /// A context that no sequence may have.
    #[error("the context is {}; it must be {SEQ_LEN}", counted(context.0, "token"))]
    ContextTooLong { context: Tokens },
    /// A sequence that the costs don't reach.
    #[error("{place}: {} are more than the context of {context}", counted(seq_len.0, "token"))]
    BeyondContext {
        place: String,
        seq_len: Tokens,
        context: Tokens,
    },
    /// A batch that can't be.
    #[error(transparent)]
    Batch(CoreError),

    /// A distribution that is not there or can't be read.
    #[error("distribution {name} can't be read: {error}")]
    UnreadableDistribution { name: String, error: std::io::Error },
    /// A distribution that breaks a rule.
    #[error("{name}: {rule}")]
    BadDistribution { name: String, rule: String },
    /// A lognormal without its two parameters.
    #[error(
        "lengths {}: a lognormal has a median in tokens and a sigma",
        shown(text)
    )]
    BadLognormal { text: String },
    /// Lengths of an unknown name.
    #[error(
        "there are no lengths {}: neither a known distribution nor a file",
        shown(name)
    )]
    UnknownLengths { name: String },
    /// Documents that can't be read.
    #[error("corpus {}: {error}", path.display())]
    Corpus { path: PathBuf, error: DataError },
    /// Documents without text.
    #[error("corpus {} has no document with text", path.display())]
    EmptyCorpus { path: PathBuf },
    /// A distribution above the longest permitted length.
    #[error(
        "lengths of {name} are hardly ever {longest} tokens or fewer, which is the most allowed"
    )]
    DrawsTooLong { name: String, longest: Tokens },
    /// A list of lengths above the longest permitted one.
    #[error(
        "none of the {num} lengths of {name} is {longest} tokens or fewer, which is the most allowed"
    )]
    AllTooLong {
        num: usize,
        name: String,
        longest: Tokens,
    },

    /// A profile that can't be used.
    #[error("{}", of_profile(path, error))]
    Profile { path: PathBuf, error: ProfileError },
    /// A cluster or a model that can't be used.
    #[error("{}", of_hardware(path, error))]
    Hardware { path: PathBuf, error: HardwareError },
    /// A cluster of an unknown name.
    #[error(
        "there is no cluster {}: neither a file nor a known one, which are DEVICE-NODESxDEVICES of {}",
        shown(name),
        DeviceKind::names()
    )]
    UnknownCluster { name: String },
    /// A model of an unknown name.
    #[error(
        "there is no model {}: neither a known one nor a file in TOML",
        shown(name)
    )]
    UnknownModel { name: String },
    /// Costs that make no model.
    #[error("{}: {error}", path.display())]
    Costs { path: PathBuf, error: CostError },
    /// A degree that was chosen twice.
    #[error("degree {degree} is listed twice; once is the rule")]
    RepeatedDegree { degree: Degree },
    /// A degree with ranks that have no head.
    #[error(
        "degree {degree} is more than the model's {}; each rank of a group needs one",
        counted(*num_heads, "head")
    )]
    DegreeAboveHeads { degree: Degree, num_heads: u32 },
    /// A choice by a name that nothing has.
    #[error("there is no {noun} {}", shown(name))]
    UnknownChoice {
        noun: &'static str,
        name: String,
        hint: String,
    },
    /// All, listed beside others.
    #[error("all is listed beside others; {noun} are all, or those that are listed")]
    AllBesideOthers { noun: &'static str },
    /// A choice that is listed twice.
    #[error("{noun} {} is listed twice; once is the rule", shown(name))]
    RepeatedChoice { noun: &'static str, name: String },
    /// Activations that would move over a link that nobody has described.
    #[error("{cluster} describes no link to host memory; activations can't be moved there")]
    NoHostLink { cluster: String },
    /// A share of a model whose costs were measured as a whole.
    #[error("{}: costs of a profile hold for the share of a model that they were measured for", path.display())]
    ShareOfProfile { path: PathBuf },
    /// Logits of a step whose memory was measured, or published.
    #[error("{}: the memory of a profile is that of the loss it was measured with; logits {logits} can't be chosen", path.display())]
    LogitsOfProfile { path: PathBuf, logits: Logits },
    /// A share of a model that can't be, or not on these devices.
    #[error(transparent)]
    Share(HardwareError),
    /// Two numbers of devices.
    #[error(
        "{} and {} of {} were asked for; one of the two is the rule",
        counted(*num_devices, "device"),
        counted(*num_ranks, "rank"),
        counted(*devices_per_rank, "device")
    )]
    DevicesAndRanks {
        num_devices: u32,
        num_ranks: u32,
        devices_per_rank: u32,
    },
    /// Chosen degrees of which none is possible.
    #[error(transparent)]
    NoDegree(CoreError),

    /// Devices that the model alone fills.
    #[error(
        "with {} in the cluster, each device holds {fixed} of the model before any sequence; it has {memory}",
        devices(*num_devices, *devices_per_rank)
    )]
    FilledByModel {
        num_devices: u32,
        devices_per_rank: u32,
        fixed: Bytes,
        memory: Bytes,
        enough_devices: Option<u32>,
    },
    /// A sequence for a larger cluster.
    #[error(
        "{place}: {seq_len} tokens need degree {needed}; the cluster has {}",
        devices(*num_devices, *devices_per_rank)
    )]
    DegreeBeyondCluster {
        place: String,
        seq_len: Tokens,
        needed: u32,
        num_devices: u32,
        devices_per_rank: u32,
        limit: MemoryLimit,
        enough_devices: Option<u32>,
    },
    /// A sequence for a larger degree than the largest to choose from.
    #[error(
        "{place}: {seq_len} tokens need degree {needed}; the largest to choose from is {largest}"
    )]
    DegreeBeyondChoice {
        place: String,
        seq_len: Tokens,
        needed: u32,
        largest: u32,
        /// The largest degree of the costs and the cluster, whatever the planner may use.
        largest_known: u32,
        limit: MemoryLimit,
        enough_devices: Option<u32>,
        rings_would_do: bool,
    },
    /// A sequence that no degree has room for.
    #[error(
        "{place}: {seq_len} tokens need {predicted_memory} {limit} even at degree {degree}, the best there is; \
         {budget} are left for them"
    )]
    BeyondMemory {
        place: String,
        seq_len: Tokens,
        predicted_memory: Bytes,
        degree: u32,
        budget: Bytes,
        limit: MemoryLimit,
        enough_devices: Option<u32>,
    },
    /// A sequence that has no room on devices that differ.
    #[error("{place}: {error}")]
    UnplannableSequence { place: String, error: PlanError },
    /// A batch for which there is no plan.
    #[error(transparent)]
    Unplannable(PlanError),

    /// Text that holds no plan.
    #[error("{name} is no plan in JSON: {error}")]
    NotAPlan {
        name: String,
        error: serde_json::Error,
    },
    /// A file of a later version.
    #[error("{name}: {error}")]
    UnknownVersion { name: String, error: UnknownVersion },
    /// A group that can't be.
    #[error("{name}, micro-batch {micro_batch}, group {group}: {rule}")]
    BadGroup {
        name: String,
        micro_batch: usize,
        group: usize,
        rule: String,
    },
    /// A plan that contradicts itself.
    #[error("{name}: {violation}")]
    InvalidPlan {
        name: String,
        violation: PlanViolation,
    },
    /// A plan that devices can't run.
    #[error("{name}: {violation}")]
    UnfitPlan {
        name: String,
        violation: PlanViolation,
    },
    /// A plan of strategies without costs.
    #[error("{name}: the costs say nothing of the plan's strategy {strategy}")]
    UnpricedPlan { name: String, strategy: Strategy },
    /// A predicted figure that can't be.
    #[error("{name}: {key}: {error}")]
    BadPrediction {
        name: String,
        key: &'static str,
        error: CoreError,
    },
}

impl InputError {
    /// An error of a profile file.
    pub fn profile(path: &Path, error: ProfileError) -> Self {
        let path = path.to_owned();
        InputError::Profile { path, error }
    }

    /// An error of a cluster or a model, of a file or a name.
    pub fn hardware(path: &Path, error: HardwareError) -> Self {
        let path = path.to_owned();
        InputError::Hardware { path, error }
    }

    /// A hint for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            InputError::UnreadableDistribution { .. } => {
                Some("name a file like examples/lengths/wikipedia.toml".to_owned())
            }
            InputError::NotALength { written, .. } => hint_for_length(written),
            InputError::BeyondContext { .. } => {
                Some("split or skip longer documents, or raise --context".to_owned())
            }
            InputError::BadLognormal { .. } => Some("write it like lognormal:900:1.25".to_owned()),
            InputError::UnknownLengths { name } => {
                Some(suggestion(name, &LengthSource::names(), "known are"))
            }
            InputError::Hardware { error, .. } => error.hint().map(str::to_owned),
            InputError::UnknownCluster { name } => Some(hint_for_cluster(name)),
            InputError::UnknownChoice { hint, .. } => Some(hint.clone()),
            InputError::NoHostLink { .. } => {
                Some("write host_bandwidth_bytes_per_s under [device], or name its kind".to_owned())
            }
            InputError::ShareOfProfile { .. } | InputError::LogitsOfProfile { .. } => Some(
                "describe the model and the cluster instead, by --model and --cluster".to_owned(),
            ),
            InputError::Profile {
                error: ProfileError::UnknownKind { .. },
                ..
            } => Some(
                "describe the model and the cluster instead, by --model and --cluster, whose costs cover it"
                    .to_owned(),
            ),
            InputError::Share(error) => error.hint().map(str::to_owned),
            InputError::UnknownModel { name } => {
                let known = ModelKind::ALL.map(ModelKind::name);
                Some(suggestion(name, &known, "known are"))
            }
            InputError::FilledByModel { enough_devices, .. } => {
                let enough = enough(*enough_devices).replace(", ", ", or ");
                Some(format!("use {enough}devices with more memory"))
            }
            InputError::DegreeBeyondChoice {
                enough_devices,
                limit,
                rings_would_do: true,
                ..
            } => Some(format!(
                "use rings (--strategies ring), which heads do not limit, {}, or split longer sequences",
                roomier(*enough_devices, *limit)
            )),
            InputError::DegreeBeyondChoice {
                needed,
                largest_known,
                ..
            } if needed <= largest_known => Some(format!(
                "let groups have degree {needed}: what limits degrees is the planner, --degrees, --max-communicators or a \
                 rule"
            )),
            InputError::DegreeBeyondCluster {
                enough_devices,
                limit,
                ..
            }
            | InputError::DegreeBeyondChoice {
                enough_devices,
                limit,
                ..
            }
            | InputError::BeyondMemory {
                enough_devices,
                limit,
                ..
            } => Some(format!(
                "use {}, or split longer sequences",
                roomier(*enough_devices, *limit)
            )),
            InputError::UnplannableSequence { error, .. } | InputError::Unplannable(error) => {
                error.hint()
            }
            InputError::UnfitPlan { .. } | InputError::UnpricedPlan { .. } => Some(
                "use the costs and the devices that it was planned for, or plan anew".to_owned(),
            ),
            InputError::NotAPlan { .. } | InputError::InvalidPlan { .. } => {
                Some("write it with lengthwise plan --json".to_owned())
            }
            _ => None,
        }
    }

    /// The argument that is wrong, where it is one and no file.
    pub fn argument(&self) -> Option<&'static str> {
        match self {
            InputError::RepeatedDegree { .. }
            | InputError::DegreeAboveHeads { .. }
            | InputError::NoDegree(_) => Some("degrees"),
            _ => None,
        }
    }
}

/// The error of a profile's file, named once.
fn of_profile(path: &Path, error: &ProfileError) -> String {
    let message = error.to_string();
    let message = message.trim_end();
    let cause = error.source();
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    match error {
        ProfileError::Unreadable { .. } => format!("{message}{cause}"),
        ProfileError::Syntax(_) => in_file(path, &message),
        _ => in_file(path, &format_args!("{message}{cause}")),
    }
}

/// The error of a cluster or a model, named once.
fn of_hardware(path: &Path, error: &HardwareError) -> String {
    let message = error.to_string();
    let message = message.trim_end();
    match error {
        HardwareError::Unreadable { source, .. }
        | HardwareError::UnreadableModel { source, .. } => format!("{message}: {source}"),
        _ => in_file(path, &message),
    }
}

/// The cluster that was probably meant, of the size that was written.
fn hint_for_cluster(written: &str) -> String {
    let size = written.rsplit_once('-').map_or("", |(_, size)| size);
    let is_size = Hardware::named(&format!("{}-{size}", DeviceKind::H200)).is_ok();
    let size = if is_size { size } else { "8x8" };
    let devices = DeviceKind::ALL.map(|kind| [kind.name(), kind.short_name()]);
    let mut known: Vec<String> = devices
        .as_flattened()
        .iter()
        .map(|device| format!("{device}-{size}"))
        .filter(|name| Hardware::named(name).is_ok())
        .collect();
    known.dedup();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    suggestion(&written.to_lowercase(), &known, "write it like")
}

fn in_file(path: &Path, message: &dyn Display) -> String {
    format!("{}: {message}", path.display())
}

/// So many devices, or ranks that each stand for several.
fn devices(num: u32, devices_per_rank: u32) -> String {
    match devices_per_rank {
        1 => counted(num, "device"),
        _ => format!("{} of {devices_per_rank} devices", counted(num, "rank")),
    }
}

/// How many devices would do, where any number would, or what devices would.
fn roomier(devices: Option<u32>, limit: MemoryLimit) -> String {
    let roomier = match limit {
        MemoryLimit::Devices => "devices with more memory",
        MemoryLimit::Hosts => "hosts with more memory",
    };
    format!("{}{roomier}", enough(devices))
}

/// How many devices would do, where any number would, and a comma.
fn enough(devices: Option<u32>) -> String {
    devices.map_or_else(String::new, |devices| {
        format!("{devices} devices or more, ")
    })
}
