//! Reasons for refusing a certificate.

use lengthwise_core::{CoreError, PlanViolation, Seconds, Strategy};
use lengthwise_cost::format::UnknownVersion;
use thiserror::Error;

use crate::SpanName;

/// Why a certificate is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum Refusal {
    /// No certificate at all.
    #[error("it is no certificate in JSON: {0}")]
    NotACertificate(serde_json::Error),
    /// A later format.
    #[error("{0}")]
    UnknownVersion(UnknownVersion),
    /// A figure that is no time.
    #[error("{key} is {value}; it must be a number of seconds from 0 on")]
    NotATime { key: &'static str, value: f64 },
    /// A batch, a device or a cluster that can't be.
    #[error("{key}: {error}")]
    Impossible { key: &'static str, error: CoreError },
    /// A device that can't be reckoned with.
    #[error("nodes has a device of speed {speed:?}; speeds are from 1e-12 to 1e12")]
    BadSpeed { speed: f64 },
    /// Tables about other lengths than the plan's.
    #[error(
        "seq_lens_tokens has {found} at {position} of its different lengths, and lengths_tokens has {listed}; costs are \
         needed of every length and no other"
    )]
    OtherLengths {
        position: usize,
        found: String,
        listed: String,
    },
    /// A table of another size.
    #[error("shape {shape} has {found} {key} for {num_lengths} different lengths")]
    TableSize {
        shape: usize,
        key: &'static str,
        found: usize,
        num_lengths: usize,
    },
    /// A table that can't be one of costs.
    #[error(
        "shape {shape} takes {value:?} {key} for {seq_len} tokens; costs are numbers from 0 to 1e18 that don't fall with length"
    )]
    BadCost {
        shape: usize,
        key: &'static str,
        value: f64,
        seq_len: u64,
    },
    /// A shape that groups can have, but without a table: it might be faster than all others.
    #[error("shapes lacks {strategy} {}, which the problem allows; the bound has to range over it", span_words(*.span))]
    MissingShape { strategy: Strategy, span: SpanName },
    /// Two tables for one shape.
    #[error("shapes has {strategy} {} twice", span_words(*.span))]
    ShapeTwice { strategy: Strategy, span: SpanName },
    /// A plan that breaks a rule.
    #[error("the plan is none: {0}")]
    BadPlan(PlanViolation),
    /// A plan that takes another time.
    #[error("plan_step_s is {claimed}; by the tables the plan takes {recomputed}")]
    OtherPlanTime { claimed: f64, recomputed: f64 },
    /// A proof by a limit that the rules don't set.
    #[error("capacity is {0:?}; the rules of the problem limit no such thing")]
    NoCapacity(&'static str),
    /// A leaf whose numbers don't belong together.
    #[error("leaf {leaf} {fault}")]
    BadLeaf { leaf: usize, fault: String },
    /// A makespan that may be long enough, or that is none.
    #[error("one_micro_batch {fault}")]
    BadOneMicroBatch { fault: String },
    /// Plans that nothing is proven about.
    #[error("no leaf covers the plans of {num_micro_batches} micro-batch{}{decisions}", if *.num_micro_batches == 1 { "" } else { "es" })]
    NotCovered {
        num_micro_batches: u64,
        decisions: String,
    },
    /// Buckets that leave lengths out.
    #[error("bucket {bucket} {fault}")]
    BadBucket { bucket: usize, fault: String },
    /// A bound that the plan itself disproves.
    #[error("bound_s is {bound}; the plan takes {plan_step}, and no bound is above that")]
    AbovePlan { bound: f64, plan_step: f64 },
    /// A bound that is too high.
    #[error("bound_s is {}; the proof comes to {proven:?}{weakest} only", .bound.get())]
    NotProven {
        bound: Seconds,
        proven: f64,
        weakest: String,
    },
    /// Costs of another model or cluster.
    #[error("{what}: the certificate has {found}, and these costs {expected}")]
    OtherCosts {
        what: String,
        found: f64,
        expected: f64,
    },
    /// Costs that say nothing of a strategy.
    #[error("the certificate has costs of {strategy}, and these costs have none")]
    NoSource { strategy: Strategy },
}

impl Refusal {
    /// A hint at what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Refusal::NotACertificate(_) => Some("lengthwise plan --certificate FILE writes one"),
            Refusal::UnknownVersion(_) => {
                Some("verify it with the version that wrote it, or a later one")
            }
            Refusal::OtherCosts { .. } | Refusal::NoSource { .. } => {
                Some("give the costs that it was planned with, by the same arguments")
            }
            _ => Some(
                "it was changed since it was written, or proves something else; plan again for a new one",
            ),
        }
    }
}

fn span_words(span: SpanName) -> &'static str {
    match span {
        SpanName::OneNode => "on one node",
        SpanName::ManyNodes => "on several nodes",
    }
}
