//! The limits of Megatron-Core's rule: problems that it can't plan.

use lengthwise_core::words::counted;
use lengthwise_core::{SequenceIndex, Tokens};
use thiserror::Error;

/// Why the rule of Megatron-Core's dynamic context parallelism has no plan for a batch that may well have one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MegatronLimit {
    /// A rank that may hold nothing.
    #[error("a rank may hold no token; Megatron-Core's rule needs room for at least one")]
    NoTokens,
    /// A sequence whose group, rounded up to a power of two, would not be on the cluster.
    #[error(
        "sequence {sequence} of {} needs a group of {} by Megatron-Core's rule, at \
         {} a rank; the cluster has {num_ranks}",
        counted(seq_len.0, "token"),
        counted(*needed_ranks, "rank"),
        counted(tokens_per_rank.0, "token")
    )]
    TooLong {
        /// The longest sequence.
        sequence: SequenceIndex,
        /// Its length.
        seq_len: Tokens,
        /// The smallest group that it may have.
        needed_ranks: u64,
        /// The most tokens of a rank.
        tokens_per_rank: Tokens,
        /// The ranks of the cluster.
        num_ranks: u32,
    },
    /// Groups that can't grow over the ranks that are left idle.
    #[error(
        "Megatron-Core's rule leaves some of {num_ranks} ranks idle beside groups of {degrees}, and can't double one to \
         take them in"
    )]
    RanksLeftOver {
        /// The ranks of the cluster.
        num_ranks: u32,
        /// The degrees of the groups, to read.
        degrees: String,
    },
    /// Too few groups to cut micro-batches in two.
    #[error(
        "Megatron-Core's rule comes to {} and {multiple_of} or a multiple are asked for; \
         none is left to be cut in two, as each has one group",
        counted(*num_micro_batches as u64, "micro-batch")
    )]
    TooFewGroups {
        /// The micro-batches there are.
        num_micro_batches: usize,
        /// The multiple asked for.
        multiple_of: u32,
    },
    /// A micro-batch that can't be cut, as its groups are in the wrong order for it.
    #[error(
        "Megatron-Core's rule can't cut a micro-batch in two with groups of {degrees}; only one whose degrees do not rise"
    )]
    RisingDegrees {
        /// The degrees of the groups, to read.
        degrees: String,
    },
    /// A degree that the model has no strategy for.
    #[error(
        "Megatron-Core's rule asks for a group of degree {degree}; the degrees are {available}"
    )]
    NoStrategy {
        /// The degree it asks for.
        degree: u32,
        /// The degrees there are, for the reader.
        available: String,
    },
}

impl MegatronLimit {
    /// Advice for the user.
    pub fn hint(&self) -> String {
        match self {
            MegatronLimit::NoTokens => "raise the most tokens of a rank".to_owned(),
            MegatronLimit::TooLong {
                seq_len, num_ranks, ..
            } => {
                let largest = prev_power_of_two(*num_ranks);
                let enough = seq_len.0.div_ceil(u64::from(largest));
                format!("allow {enough} tokens a rank or more, or use the adaptive planner")
            }
            MegatronLimit::RanksLeftOver { .. } => {
                "use a number of ranks that is a power of two, or the adaptive planner".to_owned()
            }
            MegatronLimit::TooFewGroups { .. } | MegatronLimit::RisingDegrees { .. } => {
                "train without virtual stages, or use the adaptive planner".to_owned()
            }
            MegatronLimit::NoStrategy { degree, .. } => {
                format!("allow degree {degree}, or use the adaptive planner")
            }
        }
    }
}

/// The largest power of two that is at most `num`, which is at least 1.
fn prev_power_of_two(num: u32) -> u32 {
    1 << num.max(1).ilog2()
}
