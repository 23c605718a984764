//! Trace events: what a rank did, and when. These are the events that simulated and real steps have in common.
//!
//! A step is a list of [`TraceEvent`]s, whoever ran it, so that a predicted and a measured step can be laid over
//! each other. Events of one rank do not overlap; where nothing is recorded, nothing is known.

use std::fmt;

use crate::{Bytes, Degree, Rank, Seconds, Tokens};

/// An activity of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Activity {
    /// Looks up tokens, or gathers the gradient of the table.
    Embedding,
    /// Norms, projections and the MLP of a layer: what grows with the tokens.
    Dense,
    /// Attention: what grows with the squares of the lengths.
    Attention,
    /// Final norm, output projection and loss.
    Output,
    /// Updates its shard of the parameters.
    Optimizer,
    /// Exchanges tokens for heads, or back, with its group.
    Exchange,
    /// Waits for parameters that are on their way.
    Gather,
    /// Waits for gradients that are on their way to their shards.
    Scatter,
    /// Waits for a layer's input that is on its way to the host or back.
    HostCopy,
    /// The fixed cost of a micro-batch, where its parts are not known.
    Overhead,
    /// Waits for other ranks.
    Wait,
}

/// The class of time that an [`Activity`] counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActivityClass {
    /// The device computes.
    Compute,
    /// The device waits for something that is on its way: communication that nothing hides.
    ExposedCommunication,
    /// Fixed costs of a micro-batch.
    Overhead,
    /// The device waits for other ranks.
    Idle,
}

impl Activity {
    /// All of them.
    pub const ALL: [Activity; 11] = [
        Activity::Embedding,
        Activity::Dense,
        Activity::Attention,
        Activity::Output,
        Activity::Optimizer,
        Activity::Exchange,
        Activity::Gather,
        Activity::Scatter,
        Activity::HostCopy,
        Activity::Overhead,
        Activity::Wait,
    ];

    /// The name it has in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Activity::Embedding => "embedding",
            Activity::Dense => "dense",
            Activity::Attention => "attention",
            Activity::Output => "output",
            Activity::Optimizer => "optimizer",
            Activity::Exchange => "exchange",
            Activity::Gather => "gather parameters",
            Activity::Scatter => "scatter gradients",
            Activity::HostCopy => "copy layer inputs",
            Activity::Overhead => "overhead",
            Activity::Wait => "wait",
        }
    }

    /// The class of time that it counts as.
    pub const fn class(self) -> ActivityClass {
        match self {
            Activity::Embedding
            | Activity::Dense
            | Activity::Attention
            | Activity::Output
            | Activity::Optimizer => ActivityClass::Compute,
            Activity::Exchange | Activity::Gather | Activity::Scatter | Activity::HostCopy => {
                ActivityClass::ExposedCommunication
            }
            Activity::Overhead => ActivityClass::Overhead,
            Activity::Wait => ActivityClass::Idle,
        }
    }
}

impl ActivityClass {
    /// The name it has in traces and reports.
    pub const fn name(self) -> &'static str {
        match self {
            ActivityClass::Compute => "compute",
            ActivityClass::ExposedCommunication => "exposed communication",
            ActivityClass::Overhead => "overhead",
            ActivityClass::Idle => "idle",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which way through the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// From the tokens to the loss.
    Forward,
    /// A layer's forward once more, for what its backward needs and was not kept.
    Recompute,
    /// From the loss to the gradients.
    Backward,
}

impl Pass {
    /// All of them.
    pub const ALL: [Pass; 3] = [Pass::Forward, Pass::Recompute, Pass::Backward];

    /// The name it has in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Recompute => "recompute",
            Pass::Backward => "backward",
        }
    }
}

/// The work of a rank's group in a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLoad {
    /// How many ranks share it.
    pub degree: Degree,
    /// How many sequences.
    pub num_sequences: u32,
    /// The tokens of all of them.
    pub num_tokens: Tokens,
}

/// A stretch of a rank's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceEvent {
    /// Whose time.
    pub rank: Rank,
    /// The rank's activity.
    pub activity: Activity,
    /// Since the step began.
    pub start: Seconds,
    /// How long.
    pub duration: Seconds,
    /// The micro-batch it did so for; `None` for the optimiser's part of the step.
    pub micro_batch: Option<u32>,
    /// The layer, where it is one's work.
    pub layer: Option<u32>,
    /// The way through the layers.
    pub pass: Option<Pass>,
    /// The work of the rank's group meanwhile; `None` for a rank without a group.
    pub load: Option<GroupLoad>,
    /// The bytes that the rank itself passes on, where something is on its way.
    pub bytes: Option<Bytes>,
}

impl TraceEvent {
    /// When it ended.
    pub fn end(&self) -> Seconds {
        self.start + self.duration
    }
}

/// Takes events as they come. Those of one rank come in order; ranks take turns.
pub trait TraceSink {
    /// Takes the next event.
    fn record(&mut self, event: &TraceEvent);
}

/// Keeps nothing.
impl TraceSink for () {
    fn record(&mut self, _: &TraceEvent) {}
}

/// Keeps everything.
impl TraceSink for Vec<TraceEvent> {
    fn record(&mut self, event: &TraceEvent) {
        self.push(*event);
    }
}
