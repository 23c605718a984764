//! The vocabulary of Lengthwise as types: what a batch, a cluster and a plan are.
//!
//! | noun | type |
//! | --- | --- |
//! | quantities | [`Tokens`], [`Bytes`], [`Seconds`], [`Speed`] |
//! | one worker and its device | [`Rank`], [`Device`] |
//! | the machines | [`Cluster`] |
//! | what a step trains on | [`GlobalBatch`] of [`Sequence`]s |
//! | how a group scatters a sequence | [`Strategy`], drawn from a [`StrategySpace`] |
//! | the decision for one step | [`Plan`] of [`MicroBatch`]es of [`Group`]s |
//! | what ranks did in a step | [`TraceEvent`]s, taken by a [`TraceSink`] |
//!
//! Nothing here does I/O. A [`Plan`] is only data; [`Plan::validate`] says whether it keeps the
//! rules that every executor and simulator relies on.
//!
//! ```
//! use lengthwise_core::{Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Group, MicroBatch, Plan, PlanRules};
//! use lengthwise_core::{Rank, SequenceIndex, Speed, Strategy, StrategySpace};
//!
//! let batch = GlobalBatch::from_lens([900, 100, 200])?;
//! let cluster = Cluster::uniform(1, 4, Device::new(Bytes::from_mib(64), Speed::NOMINAL))?;
//! let group = |degree, ranks: std::ops::Range<u32>, sequences: &[u32]| Group {
//!     strategy: Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Keep),
//!     ranks: ranks.map(Rank).collect(),
//!     sequences: sequences.iter().copied().map(SequenceIndex).collect(),
//! };
//! let plan = Plan::new(vec![MicroBatch {
//!     groups: vec![group(2, 0..2, &[0]), group(1, 2..3, &[1, 2])],
//! }]);
//! assert_eq!(plan.to_string(), "[2 1]");
//!
//! struct KilobytePerToken;
//! impl lengthwise_core::MemoryModel for KilobytePerToken {
//!     fn sequence_memory(&self, strategy: Strategy, len: lengthwise_core::Tokens) -> Bytes {
//!         Bytes(1024 * len.0.div_ceil(strategy.degree().get() as u64))
//!     }
//!     fn budget(&self, device: &Device) -> Bytes {
//!         device.memory()
//!     }
//! }
//! let space = StrategySpace::ulysses_up_to(8, Activations::Keep)?;
//! plan.validate(&batch, &cluster, &space, &KilobytePerToken, &PlanRules::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod activations;
mod batch;
mod cluster;
mod error;
mod joint_memory;
pub mod limits;
mod memory_model;
mod plan;
mod rank;
mod rules;
mod strategy;
mod strategy_family;
mod strategy_space;
mod trace;
mod units;
mod validate;
pub mod words;

pub use activations::Activations;
pub use batch::{GlobalBatch, Sequence, SequenceIndex};
pub use cluster::{Cluster, Device};
pub use error::CoreError;
pub use joint_memory::JointMemory;
pub use memory_model::MemoryModel;
pub use plan::{Group, MicroBatch, Plan};
pub use rank::{Degree, Rank};
pub use rules::{PlanRules, TokenCap};
pub use strategy::{Exchange, Strategy, StrategyKind};
pub use strategy_family::StrategyFamily;
pub use strategy_space::{SpaceLimits, StrategySpace};
pub use trace::{Activity, ActivityClass, GroupLoad, Pass, TraceEvent, TraceSink};
pub use units::{Bytes, Seconds, Speed, Tokens};
pub use validate::PlanViolation;
