//! Errors of the values of the vocabulary.

use thiserror::Error;

use crate::limits::{BATCH_SEQUENCES, SEQ_LEN};
use crate::words::{figure, shown};
use crate::{Degree, Tokens};

/// A value that breaks a rule of the vocabulary.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A token count that can't be read.
    #[error(
        "\"{}\" is not a number of tokens; write it like 4096, 384k (thousands) or 16Ki (1,024s)",
        shown(text)
    )]
    BadTokens {
        /// What was written.
        text: String,
    },
    /// A duration that is negative or not a number.
    #[error("{} is not a duration in seconds; it must be finite and not negative", figure(*value))]
    BadSeconds {
        /// The offending value.
        value: f64,
    },
    /// A device speed that is not positive.
    #[error("{} is not a device speed; it must be finite and above 0", figure(*value))]
    BadSpeed {
        /// The offending value.
        value: f64,
    },
    /// A degree of zero.
    #[error("degree 0 is not allowed; a group has at least one rank")]
    ZeroDegree,
    /// A group that would be too large to count.
    #[error(
        "ulysses {ulysses} times ring {ring} is more than a degree can be, {}",
        u32::MAX
    )]
    DegreeTooLarge {
        /// The part that exchanges tokens for heads.
        ulysses: Degree,
        /// The part that passes key/value blocks around.
        ring: Degree,
    },
    /// A choice for activations that does not exist.
    #[error(
        "\"{}\" is no choice for activations; they can be \"keep\", \"recompute\" or \"host\"",
        shown(name)
    )]
    UnknownActivations {
        /// What was written.
        name: String,
    },
    /// A strategy space without any strategy.
    #[error("no degree is left to plan with; {reason}")]
    NoDegrees {
        /// Why there is none.
        reason: String,
    },
    /// A cluster without devices.
    #[error(
        "a cluster needs at least one node, and each node at least one device; node {node} has none"
    )]
    EmptyNode {
        /// Index of the node, 0 also where there is no node at all.
        node: usize,
    },
    /// More devices than are planned for.
    #[error(
        "a cluster of {num_devices} devices is too large; at most {} are allowed",
        crate::Cluster::MAX_DEVICES
    )]
    TooManyDevices {
        /// How many were asked for.
        num_devices: u128,
    },
    /// A global batch without sequences.
    #[error("the global batch is empty; a step needs at least one sequence")]
    EmptyBatch,
    /// A sequence without tokens.
    #[error("sequence {index} has 0 tokens; every sequence needs at least 1")]
    EmptySequence {
        /// Position in the batch.
        index: usize,
    },
    /// More sequences than a batch may have.
    #[error(
        "the global batch has {num_sequences} sequences; it may have at most {}",
        BATCH_SEQUENCES.most
    )]
    BatchTooLarge {
        /// How many there are.
        num_sequences: usize,
    },
    /// A sequence that is longer than any may be.
    #[error("sequence {index} has {seq_len} tokens; a sequence may have at most {}", SEQ_LEN.most)]
    SequenceTooLong {
        /// Position in the batch.
        index: usize,
        /// Its length.
        seq_len: Tokens,
    },
}
