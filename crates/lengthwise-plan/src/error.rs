//! The reasons why a batch can't be planned, and hints.

use std::fmt;

use lengthwise_core::words::counted;
use lengthwise_core::{Bytes, PlanRules, PlanViolation, SequenceIndex, Strategy, Tokens};
use thiserror::Error;

use crate::MegatronLimit;

/// Whose memory a sequence has no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// That of each device.
    Devices,
    /// Each device's share of its host's.
    Hosts,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryLimit::Devices => "on each device",
            MemoryLimit::Hosts => "of host memory for each device",
        })
    }
}

/// Why a batch can't be planned.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A sequence that fits no group of the cluster.
    #[error(
        "sequence {sequence} of {} needs {predicted_memory} {limit} even at degree {degree}, \
         the best there is; the budget is {budget}",
        counted(seq_len.0, "token")
    )]
    DoesNotFit {
        /// The longest such sequence.
        sequence: SequenceIndex,
        /// Its length.
        seq_len: Tokens,
        /// The memory it needs at `degree`: with this budget on every device it would fit.
        predicted_memory: Bytes,
        /// The degree at which it lacks the least.
        degree: u32,
        /// The memory that the devices of such a group have for sequences.
        budget: Bytes,
        /// Whose memory both are.
        limit: MemoryLimit,
        /// The smallest number of devices like the cluster's largest on which it would fit, if any would do.
        num_devices: Option<u32>,
    },
    /// A strategy whose costs are not known.
    #[error("the costs say nothing of the strategy {strategy}; nothing can be planned with it")]
    Unpriced {
        /// The strategy in the strategy space.
        strategy: Strategy,
    },
    /// Costs that fall with length, which no plan or bound could rest on.
    #[error(
        "the {cost} of a sequence at degree {degree} is less for {} than for {shorter}; it must not fall \
         with length",
        counted(longer.0, "token")
    )]
    CostFalls {
        /// The cost that falls: time or memory.
        cost: &'static str,
        /// The degree at which it does.
        degree: u32,
        /// A length of the batch.
        shorter: Tokens,
        /// The next longer one.
        longer: Tokens,
    },
    /// A cost that can't be meant.
    #[error(
        "a sequence of {} is predicted to take {seconds:e} s at degree {degree}; more than 1e18 s can't be \
         planned with",
        counted(seq_len.0, "token")
    )]
    TakesForEver {
        /// Its length.
        seq_len: Tokens,
        /// The degree.
        degree: u32,
        /// By the cost model, at nominal speed.
        seconds: f64,
    },
    /// No allowed degree is as small as the cluster.
    #[error(
        "the smallest degree allowed is {smallest_degree}; the cluster has {}",
        counted(*num_devices, "device")
    )]
    NoDegreeFits {
        /// The smallest degree of the strategy space.
        smallest_degree: u32,
        /// The number of devices of the cluster.
        num_devices: u32,
    },
    /// Communicators can't be counted where it matters which devices a group has.
    #[error(
        "at most {} were asked for, and devices or nodes differ; plans need any number",
        counted(*max_communicators, "communicator")
    )]
    UnequalDevices {
        /// The limit asked for.
        max_communicators: u32,
    },
    /// A rule that no plan of the batch can keep.
    #[error("no plan can keep the rule of {rule}: {reason}")]
    RuleCannotBeKept {
        /// The rule.
        rule: Rule,
        /// Why.
        reason: String,
    },
    /// Rules that may be possible to keep, by plans that were not found.
    #[error(
        "no plan of {} on {} was found that keeps all of these rules: {rules}",
        counted(*num_sequences as u64, "sequence"),
        counted(*num_ranks, "rank")
    )]
    NoPlanKeepsRules {
        /// The rules of the problem.
        rules: PlanRules,
        /// Sequences of the batch.
        num_sequences: usize,
        /// Devices of the cluster.
        num_ranks: u32,
    },
    /// A planner that does not know some of the rules.
    #[error("the plan of the {planner} planner breaks a rule: {violation}")]
    BreaksRule {
        /// Its name.
        planner: &'static str,
        /// The rule that its plan breaks.
        violation: PlanViolation,
    },
    /// A bound that allows no degree.
    #[error(
        "at most {} are too few for groups of any degree allowed",
        counted(*max_communicators, "communicator")
    )]
    TooFewCommunicators {
        /// The limit asked for.
        max_communicators: u32,
    },
    /// A fixed degree that the strategy space or the cluster lacks.
    #[error("degree {degree} is not available; the degrees are {available}")]
    DegreeNotAvailable {
        /// The degree asked for.
        degree: u32,
        /// The degrees there are, for the reader.
        available: String,
    },
    /// More than an exhaustive search can enumerate.
    #[error(
        "{num_sequences} sequences on {num_devices} devices are too many to enumerate; the exhaustive planner takes \
         at most {max_sequences} on {max_devices}"
    )]
    TooLargeToEnumerate {
        /// Sequences of the batch.
        num_sequences: usize,
        /// Devices of the cluster.
        num_devices: u32,
        /// The most sequences that are enumerated.
        max_sequences: usize,
        /// The most devices that are enumerated.
        max_devices: u32,
    },
    /// A batch that the rule of Megatron-Core can't plan, though another planner may.
    #[error(transparent)]
    Megatron(#[from] MegatronLimit),
}

/// A rule of [`PlanRules`] that can be impossible to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// Powers of two, and the smallest degree.
    Degrees,
    /// No rank idles.
    NoIdleRanks,
    /// The tokens of a rank.
    TokensPerRank,
    /// The number of micro-batches.
    MicroBatchesMultipleOf,
}

impl Rule {
    /// The name it has in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Degrees => "allowed degrees",
            Rule::NoIdleRanks => "no idle rank",
            Rule::TokensPerRank => "tokens per rank",
            Rule::MicroBatchesMultipleOf => "a multiple of micro-batches",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Rule::Degrees => "allow more degrees, or a smaller least one",
            Rule::NoIdleRanks => {
                "allow more degrees, plan for more sequences at once, or let ranks idle"
            }
            Rule::TokensPerRank => {
                "allow more tokens per rank, use more ranks, or shorten the context"
            }
            Rule::MicroBatchesMultipleOf => {
                "ask for a smaller multiple, or plan for more sequences at once"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PlanError {
    /// Advice for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            PlanError::DoesNotFit {
                predicted_memory,
                budget,
                limit,
                num_devices,
                ..
            } => {
                let whose = match limit {
                    MemoryLimit::Devices => "of each device",
                    MemoryLimit::Hosts => "of hosts for each device",
                };
                let lacking = predicted_memory.saturating_sub(*budget);
                let devices = match num_devices {
                    Some(num_devices) => format!(", or use {num_devices} such devices or more"),
                    None => String::new(),
                };
                Some(format!(
                    "leave {predicted_memory} {whose} to sequences ({lacking} more){devices}, or shorten the context"
                ))
            }
            PlanError::TakesForEver { .. } => {
                Some("look for a cost with a wrong unit or exponent".to_owned())
            }
            PlanError::CostFalls { .. } => Some(
                "give each length at least the cost of the next shorter one, for example the larger of the two measured"
                    .to_owned(),
            ),
            PlanError::NoDegreeFits { .. } | PlanError::DegreeNotAvailable { .. } => Some(
                "a degree must be in the list of allowed ones and at most the number of devices"
                    .to_owned(),
            ),
            PlanError::Unpriced { .. } => {
                Some("plan with strategies of the kinds that were measured".to_owned())
            }
            PlanError::UnequalDevices { .. } => {
                Some("leave the bound out, or plan for equal nodes of equal devices".to_owned())
            }
            PlanError::TooFewCommunicators { .. } => Some(
                "a degree d needs one for every d devices, and degree 1 none: allow more of them, or degree 1"
                    .to_owned(),
            ),
            PlanError::RuleCannotBeKept { rule, .. } => Some(rule.hint().to_owned()),
            PlanError::NoPlanKeepsRules { .. } => {
                Some("loosen a rule, or plan for more sequences at once".to_owned())
            }
            PlanError::BreaksRule { .. } => {
                Some("the adaptive planner keeps all rules".to_owned())
            }
            PlanError::TooLargeToEnumerate { .. } => {
                Some("the adaptive planner takes batches of any size".to_owned())
            }
            PlanError::Megatron(limit) => Some(limit.hint()),
        }
    }
}
