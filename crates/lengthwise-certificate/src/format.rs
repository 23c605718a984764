//! The keys of a certificate as JSON.
//!
//! ```json
//! {"version": 1,
//!  "problem": {"nodes": [{"count": 2, "devices": [{"count": 8, "budget_bytes": 60000000000, "speed": 1.0}]}],
//!              "micro_batch_overhead_s": 0.1, "rules": {}, "lengths_tokens": [512, 4096],
//!              "shapes": [{"strategy": {"ulysses": 2, "ring": 1, "activations": "recompute"}, "span": "one_node",
//!                          "seconds": [0.1, 0.9], "bytes": [1000, 8000]}]},
//!  "plan": {"version": 1, "seq_lens_tokens": [4096, 512, 512], "micro_batches": [{"groups": [
//!           {"ranks": [0, 1], "strategy": {"ulysses": 2, "ring": 1, "activations": "recompute"}, "sequences": [0, 1, 2]}]}]},
//!  "plan_step_s": 1.2, "bound_s": 1.1,
//!  "proof": {"tree": {"limit_s": 1.2, "capacity": "memory", "leaves": [
//!            {"num_micro_batches": 1, "or_more": true, "time_prices": [0.0625], "capacity_prices": [0.0]}]}}}
//! ```
//!
//! `plan` is a plan as other commands read it, and the one place where lengths are written.

use lengthwise_core::{Group, MicroBatch, Plan, Rank, SequenceIndex, Tokens};
use lengthwise_cost::Span;
use lengthwise_cost::format::{FormatVersion, StrategyRecord};
use serde::{Deserialize, Serialize};

use crate::{Refusal, RulesRecord};

/// A problem, a plan, and why no plan takes less than a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a certificate", deny_unknown_fields)]
pub struct Certificate {
    /// The version of the format.
    pub version: FormatVersion,
    /// The problem: sequences, devices, costs and rules.
    pub problem: Problem,
    /// A plan of it.
    pub plan: PlanRecord,
    /// The predicted time of the plan's step, in seconds.
    pub plan_step_s: f64,
    /// The claimed lower bound on the step time of any plan, in seconds.
    pub bound_s: f64,
    /// Why.
    pub proof: Proof,
}

/// Devices, rules and costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a problem", deny_unknown_fields)]
pub struct Problem {
    /// Nodes in the order of their ranks.
    pub nodes: Vec<NodeRun>,
    /// Time of every micro-batch on top of its slowest group, in seconds.
    pub micro_batch_overhead_s: f64,
    /// The rules that plans keep beyond memory.
    pub rules: RulesRecord,
    /// The different lengths of the batch, increasing: what the tables are about.
    pub lengths_tokens: Vec<u64>,
    /// Costs of sequences in groups of every possible shape.
    pub shapes: Vec<ShapeCosts>,
}

/// Nodes that are alike, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "nodes", deny_unknown_fields)]
pub struct NodeRun {
    /// The number of nodes.
    pub count: u32,
    /// The devices of each.
    pub devices: Vec<DeviceRun>,
}

/// Devices that are alike, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "devices", deny_unknown_fields)]
pub struct DeviceRun {
    /// The number of devices.
    pub count: u32,
    /// The memory of each for sequences.
    pub budget_bytes: u64,
    /// The speed of each, in that of the devices that `seconds` are for.
    pub speed: f64,
}

/// Costs of a sequence of each length in a group of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "the costs of a shape", deny_unknown_fields)]
pub struct ShapeCosts {
    /// How the group's ranks share a sequence.
    pub strategy: StrategyRecord,
    /// Whether they are on one node.
    pub span: SpanName,
    /// The time that a sequence adds at nominal speed.
    pub seconds: Vec<f64>,
    /// The memory that it adds on each device; none where tokens per rank replace memory.
    pub bytes: Vec<u64>,
}

/// Where the ranks of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanName {
    /// All on one node.
    OneNode,
    /// On two nodes or more.
    ManyNodes,
}

impl From<SpanName> for Span {
    fn from(name: SpanName) -> Self {
        match name {
            SpanName::OneNode => Span::OneNode,
            SpanName::ManyNodes => Span::ManyNodes,
        }
    }
}

impl From<Span> for SpanName {
    fn from(span: Span) -> Self {
        match span {
            Span::OneNode => SpanName::OneNode,
            Span::ManyNodes => SpanName::ManyNodes,
        }
    }
}

/// Why a bound holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// Branch and bound: every plan that takes less than `limit_s` agrees with some leaf, and none of a leaf's plans takes
    /// less than the Lagrangian bound at its dual prices.
    Tree {
        /// The time of a plan that was known, or more.
        limit_s: f64,
        /// The limit of groups that has dual prices.
        capacity: Capacity,
        /// Sets of plans that cover all of them.
        leaves: Vec<Leaf>,
        /// Of the plans of one micro-batch, where that says more than leaves do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        one_micro_batch: Option<OneMicroBatch>,
    },
    /// Cutting stock: prices of sequences by which no group holds more than it costs.
    Patterns {
        /// The limit of groups that is kept.
        capacity: Capacity,
        /// Similar lengths, increasing.
        buckets: Vec<Bucket>,
    },
}

/// The limits of the sequences of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// The memory of its devices.
    Memory,
    /// The tokens of its ranks, by the rules.
    Tokens,
    /// Their number, by the rules.
    Sequences,
}

/// The plans that agree with some decisions, and dual prices that bound them.
///
/// Prices are of *places*: the groups that decisions open, then the devices left in every micro-batch that they open, then
/// all micro-batches that they don't, if there are any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a leaf", deny_unknown_fields)]
pub struct Leaf {
    /// The number of micro-batches.
    pub num_micro_batches: u32,
    /// Whether these plans may have more.
    #[serde(default, skip_serializing_if = "crate::rules::is_false")]
    pub or_more: bool,
    /// Where the longest sequence goes, then the second longest, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// Of each place: seconds of the step for one device-second at nominal speed.
    pub time_prices: Vec<f64>,
    /// Of each place: seconds of the step for the whole capacity of one device, of the largest where they differ.
    pub capacity_prices: Vec<f64>,
}

/// A makespan that no plan of one micro-batch keeps to: its groups would need more devices than there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a proof about one micro-batch", deny_unknown_fields)]
pub struct OneMicroBatch {
    /// The makespan, in seconds.
    pub makespan_s: f64,
    /// For each shape, the part from 0 to 1 of its devices that is counted by time, the rest by capacity; any for a shape that
    /// another one outdoes.
    pub time_parts: Vec<f64>,
}

/// Where a sequence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// Into a group that was opened before, counted from 0.
    Join(u32),
    /// Into a new group.
    Open {
        /// Of a micro-batch that was opened before, counted from 0, or of the next one.
        micro_batch: u32,
        /// Its place in the list of shapes.
        shape: u32,
    },
}

/// Sequences of similar lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a bucket", deny_unknown_fields)]
pub struct Bucket {
    /// Its shortest length; it ends where the next one begins.
    pub from_tokens: u64,
    /// The price of one sequence of that length.
    pub price_s: f64,
}

/// A plan without figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a plan", deny_unknown_fields)]
pub struct PlanRecord {
    version: FormatVersion,
    pub(crate) seq_lens_tokens: Vec<u64>,
    micro_batches: Vec<MicroBatchRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a micro-batch", deny_unknown_fields)]
struct MicroBatchRecord {
    groups: Vec<GroupRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a group", deny_unknown_fields)]
struct GroupRecord {
    ranks: Vec<u32>,
    strategy: StrategyRecord,
    sequences: Vec<u32>,
}

impl PlanRecord {
    /// A plan for these lengths.
    pub fn new(plan: &Plan, seq_lens: &[Tokens]) -> Self {
        let group = |group: &Group| GroupRecord {
            ranks: group.ranks.iter().map(|rank| rank.0).collect(),
            strategy: StrategyRecord(group.strategy),
            sequences: group.sequences.iter().map(|sequence| sequence.0).collect(),
        };
        let micro_batch = |micro_batch: &MicroBatch| MicroBatchRecord {
            groups: micro_batch.groups.iter().map(group).collect(),
        };
        PlanRecord {
            version: FormatVersion,
            seq_lens_tokens: seq_lens.iter().map(|seq_len| seq_len.0).collect(),
            micro_batches: plan.micro_batches().iter().map(micro_batch).collect(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> Plan {
        let group = |group: &GroupRecord| Group {
            strategy: group.strategy.0,
            ranks: group.ranks.iter().copied().map(Rank).collect(),
            sequences: group.sequences.iter().copied().map(SequenceIndex).collect(),
        };
        let micro_batch = |micro_batch: &MicroBatchRecord| MicroBatch {
            groups: micro_batch.groups.iter().map(group).collect(),
        };
        Plan::new(self.micro_batches.iter().map(micro_batch).collect())
    }
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// A version that is not known, or what is no certificate.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        /// The version alone; a later one may have any other keys.
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<u32>,
        }
        if let Ok(Versioned { version }) = serde_json::from_slice(json)
            && let Err(error) = FormatVersion::is_current(version)
        {
            return Err(Refusal::UnknownVersion(error));
        }
        serde_json::from_slice(json).map_err(Refusal::NotACertificate)
    }

    /// The JSON, on one line.
    ///
    /// # Errors
    ///
    /// Figures that JSON has no form for.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
