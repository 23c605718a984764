//! Files and names that users hand over, and the plans they get back: one reader and one writer for the command, other
//! front ends and tests.
//!
//! ```text
//! lengths                 Lengths        one batch: lines, a JSON list, or what is drawn
//!                         LengthSource   batches: distributions, files, corpora, by name
//! profile, cluster, model CostSource     files and names
//!                           -> Costs     devices, cost model, degrees, links: for one number of devices and context
//! both                    OwnedProblem   what a planner is given
//! plan                    PlanFile       the plan with its predictions, as JSON
//! ```
//!
//! An unusable input is an [`InputError`], which names the file, the place in it and the rule; what would help stands
//! apart, in [`InputError::hint`].
//!
//! ```
//! use lengthwise_core::Tokens;
//! use lengthwise_inputs::{CostChanges, CostSource, Lengths, OwnedProblem, PlanFile};
//! use lengthwise_plan::PlannerKind;
//!
//! let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
//! let profile = format!("{examples}/profiles/a100-gpt-7b-384k.toml");
//! let costs = CostSource::profile(profile.as_ref())?.costs(CostChanges::default(), None)?;
//! let lengths = Lengths::drawn([90_000, 4000, 700].map(Tokens).to_vec(), "three lengths");
//! let problem = OwnedProblem::new(costs, lengths)?;
//!
//! let kind = PlannerKind::default();
//! let planned = problem.plan(kind.planner().as_ref())?;
//! let json = PlanFile::new(kind, planned, &problem).to_json()?;
//! let read = PlanFile::parse(json.as_bytes(), "the plan")?;
//! assert_eq!(read.planner.as_deref(), Some("adaptive"));
//! assert_eq!(read.lengths.seq_lens()[0], Tokens(90_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests write what is read")
)]
#![forbid(unsafe_code)]

mod certificate_file;
mod chosen;
mod cluster_source;
mod costs;
mod degrees;
mod distribution;
mod duration;
mod error;
mod infeasible;
mod length_source;
mod lengths;
mod longest_context;
mod model_source;
mod other_sizes;
mod plan_file;
mod plan_json;
mod problem;
mod source;
mod suggestion;

pub use certificate_file::read_certificate;
pub use chosen::{ActivationChoices, Choice, Chosen, StrategyFamilies};
pub use costs::{CostChanges, CostSource, Costs, Transport};
pub use distribution::{Draw, LengthDistribution};
pub use duration::duration;
pub use error::InputError;
pub use length_source::LengthSource;
pub use lengths::Lengths;
pub use plan_file::{GroupPrediction, MicroBatchPrediction, PlanFile, PlanPredictions};
pub use problem::OwnedProblem;
pub use suggestion::suggestion;
