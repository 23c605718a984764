//! Which micro-batches to run to learn what sequences cost on a machine, and what follows from their times.
//!
//! A [`Survey`] decides and remembers; whoever has the machine runs what it asks for:
//!
//! ```text
//! first          one token a rank, a few short lengths, each choice for activations, and each way to exchange with one of
//!                these, each degree inside a node and across nodes
//! then           what tells most of typical micro-batches for the time it takes, or a disturbed run once more
//! in between     one micro-batch again and again, which shows how the machine's speed drifts
//! for a profile  mixed groups of mixed lengths, which the fit does not see, spread over the time as well
//! until          the expected error of typical micro-batches is small, or time is up
//! ```
//!
//! Here the machine is a formula:
//!
//! ```
//! use std::time::Duration;
//!
//! use lengthwise_core::{Activations, Bytes, Cluster, Degree, Device, Seconds, Speed, StrategyKind, StrategySpace, Tokens};
//! use lengthwise_cost::{CoreSharing, FittedCosts, KindCosts};
//! use lengthwise_survey::{Survey, SurveyRule, Surveyed};
//!
//! let activations = Activations::Keep;
//! let per_token = vec![(Degree::ONE, 1000.0), (Degree::new(2)?, 500.0)];
//! let memory = KindCosts { memory_bytes_per_token: per_token, ..KindCosts::default() };
//! let surveyed = Surveyed {
//!     cluster: Cluster::uniform(1, 2, Device::new(Bytes::from_mib(8), Speed::NOMINAL))?,
//!     space: StrategySpace::ulysses(&[Degree::ONE, Degree::new(2)?], activations)?,
//!     context: Tokens(4096),
//!     num_heads: None,
//!     sharing: CoreSharing::apart(2),
//!     sharing_by_clock: CoreSharing::apart(2),
//!     device_memory: Bytes::from_mib(8),
//!     known: FittedCosts::of_kind(StrategyKind::ulysses(activations), memory),
//! };
//! let mut survey = Survey::new(surveyed, SurveyRule::thorough(Duration::from_secs(1)));
//! let mut elapsed_s = 0.0;
//! while let Some(subject) = survey.next(elapsed_s)? {
//!     let trial = survey.trial_mut(subject);
//!     let took_s = 1e-3 + 1e-5 * trial.fullest().0;
//!     elapsed_s += took_s;
//!     trial.record(elapsed_s, &[took_s])?;
//! }
//! let measured = survey.finish(Seconds::ZERO, elapsed_s)?;
//! assert!(measured.report.held_out_error.is_some_and(|error| error < 0.05));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod candidates;
mod error;
mod held_out;
mod layout;
mod measured_costs;
mod rule;
mod survey;
mod surveyed;
mod trial;

pub use error::SurveyError;
pub use measured_costs::{MeasuredCosts, ProfileHeader};
pub use rule::SurveyRule;
pub use survey::{Subject, Survey};
pub use surveyed::Surveyed;
pub use trial::{REPEATED_BELOW_S, REPEATS, Trial};
