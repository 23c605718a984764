//! Certificates: why no plan of a batch takes less than a bound, as data that anyone can check.
//!
//! A [`Certificate`] holds a planning problem with its costs as tables, a plan, and a [`Proof`] of a lower bound.
//! [`verify`] recomputes the bound from them. It shares no code with the planner that wrote the certificate, and trusts
//! nothing in it but the tables: whoever wonders whether these are the costs of a model compares them with it
//! ([`check_source`]).
//!
//! # What is proven
//!
//! A plan divides the sequences among groups, and groups among micro-batches. A sequence `s` takes `w(p, s)` seconds of a
//! group of shape `p` (a strategy, on one node or on several) at nominal speed, and `m(p, s)` bytes of each of its `d(p)`
//! devices. A micro-batch takes as long as its slowest group, its *makespan*, and an overhead `b`; a step takes the sum.
//!
//! # Why the bound holds
//!
//! ```text
//! tables           what the problem says, checked: lengths, devices, shapes that groups can have
//! plan             the plan keeps all rules and takes `plan_step_s`, so that the bound is at most that
//! cover            branching: every plan agrees with the decisions of some leaf        ┐ proof by a tree
//! relaxation       the Lagrangian bound of one leaf, for any dual prices               │
//! one_micro_batch  a makespan within which one would need more devices than there are  ┘
//! patterns         cutting stock: prices by which no group holds more than it costs      proof by patterns
//! ```
//!
//! Each module gives its part of the argument; together they are all of it.
//!
//! ```
//! use lengthwise_certificate::{Certificate, verify};
//!
//! // What `lengthwise plan --certificate` wrote.
//! let json = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tree.json"));
//! let mut certificate = Certificate::parse(json)?;
//! let verified = verify(&certificate)?;
//! assert_eq!((verified.num_sequences, verified.num_leaves), (10, 34));
//! assert!(verified.bound <= verified.plan_step);
//!
//! certificate.bound_s *= 1.01;
//! let refusal = verify(&certificate).unwrap_err().to_string();
//! assert!(refusal.starts_with("bound_s is 10.12"), "{refusal}");
//! # Ok::<(), lengthwise_certificate::Refusal>(())
//! ```

#![forbid(unsafe_code)]

mod cover;
mod format;
mod one_micro_batch;
mod patterns;
mod plan;
mod refusal;
mod relaxation;
mod rules;
mod source;
mod tables;

use lengthwise_core::{PlanRules, Seconds, Strategy};

pub use format::{
    Bucket, Capacity, Certificate, Decision, DeviceRun, Leaf, NodeRun, OneMicroBatch, PlanRecord,
    Problem, Proof, ShapeCosts, SpanName,
};
pub use refusal::Refusal;
pub use rules::RulesRecord;
pub use source::check_source;

use tables::Tables;

/// A claimed bound or time may differ from the recomputed one by this part: sums of many terms differ in their last digits,
/// and planners stop looking where a set of plans is within it.
pub const TOLERANCE: f64 = 1e-9;

/// The findings of a certificate that was checked.
#[derive(Clone, Debug)]
pub struct Verified {
    /// No plan takes less: what the certificate claims.
    pub bound: Seconds,
    /// The bound as recomputed from its proof: at least the claim.
    pub recomputed: Seconds,
    /// The predicted step time of its plan.
    pub plan_step: Seconds,
    /// The number of sets of plans that were bounded one by one; 0 for a proof by patterns.
    pub num_leaves: usize,
    /// The strategies that the bound ranges over. Plans with other strategies may take less.
    pub strategies: Vec<Strategy>,
    /// The rules that the plans it ranges over keep beyond memory.
    pub rules: PlanRules,
    /// The number of sequences.
    pub num_sequences: usize,
    /// The number of devices.
    pub num_devices: u32,
}

impl Verified {
    /// By how much the plan may at most exceed the best one: `(plan - bound) / bound`; `None` for a bound of 0.
    pub fn gap(&self) -> Option<f64> {
        let slack = self.plan_step - self.bound;
        (self.bound > Seconds::ZERO).then(|| slack / self.bound)
    }
}

/// Checks a certificate: its tables, its plan, and that its proof comes to the bound that it claims.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn verify(certificate: &Certificate) -> Result<Verified, Refusal> {
    let tables = Tables::of(certificate)?;
    let plan_step = plan::check(certificate, &tables)?;
    let bound = Seconds::new(certificate.bound_s).map_err(|_| Refusal::NotATime {
        key: "bound_s",
        value: certificate.bound_s,
    })?;
    if bound.get() > plan_step.get() * (1.0 + TOLERANCE) {
        let (bound, plan_step) = (bound.get(), plan_step.get());
        return Err(Refusal::AbovePlan { bound, plan_step });
    }
    let (proven, weakest, num_leaves) = match &certificate.proof {
        Proof::Tree {
            limit_s,
            capacity,
            leaves,
            one_micro_batch,
        } => {
            let covered = cover::bound(
                &tables,
                *limit_s,
                *capacity,
                leaves,
                one_micro_batch.as_ref(),
            )?;
            (covered.bound, covered.weakest, covered.num_leaves)
        }
        Proof::Patterns { capacity, buckets } => {
            (patterns::bound(&tables, *capacity, buckets)?, None, 0)
        }
    };
    // Not a number is no proof either.
    let is_proven = proven >= bound.get() * (1.0 - TOLERANCE);
    if !is_proven {
        return Err(Refusal::NotProven {
            bound,
            proven,
            weakest: weakest.map_or(String::new(), |weakest| format!(" ({weakest})")),
        });
    }
    Ok(Verified {
        bound,
        recomputed: Seconds::new(proven).unwrap_or(bound),
        plan_step,
        num_leaves,
        strategies: tables.strategies(),
        rules: tables.rules,
        num_sequences: tables.batch.num_sequences(),
        num_devices: tables.cluster.num_devices(),
    })
}
