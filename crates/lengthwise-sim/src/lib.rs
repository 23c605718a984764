//! An event-driven simulator: what a plan's step is like on a cluster you need not have.
//!
//! A step is taken apart into two kinds of things only:
//!
//! ```text
//! device seconds   a rank computes, at its device's speed, one thing at a time
//! transfers        ranks come to a call; once all have, its latency passes and its bytes flow over links
//! ```
//!
//! [`StepCosts`] gives both for every layer, from either of two sources. With costs *as measured*, computing and
//! exchanges take what a cost model says, transfers are all latency and cross no link, and the simulated step is the
//! predicted one wherever prediction leaves nothing out. *Over links*, exchanges, parameter gathers and gradient
//! scatters move their bytes over the links of devices and the NICs of nodes, which all that is under way shares: then
//! groups slow each other down, and a gather hides behind computing or does not. So do the blocks of a ring, which are on
//! their way while others are attended to, and layer inputs that go to host memory and back.
//!
//! | part | what it knows |
//! | --- | --- |
//! | `engine` | processes and calls; nothing of steps |
//! | `script` | what a rank does in which order, as the executor does it |
//! | [`lengthwise_network`] | which links an exchange or a gather crosses, and how they are shared |
//! | [`SimulatedStep`] | makespans, where every rank's time went, links, memory |
//! | [`ChromeTraceWriter`] | events as a file that Perfetto opens |
//!
//! What is not modelled: embedding and output count as parts of the layers; a collective's ranks proceed in step, and
//! it shares links as one transfer, however many ranks it has; the network between NICs is never full.
//!
//! ```
//! use lengthwise_core::*;
//! use lengthwise_cost::{FittedCosts, FittedModel, KindCosts, predict_step};
//! use lengthwise_sim::{Overlap, StepCosts, simulate};
//!
//! let kind = StrategyKind::ulysses(Activations::Keep);
//! let model = FittedModel::new(FittedCosts {
//!     micro_batch_overhead_s: 0.1,
//!     ..FittedCosts::of_kind(kind, KindCosts {
//!         linear_s_per_token: 1e-3,
//!         exchange_s_per_token: vec![(Degree::new(2)?, 1e-4)],
//!         ..KindCosts::default()
//!     })
//! })?;
//! let batch = GlobalBatch::from_lens([1000, 200])?;
//! let cluster = Cluster::uniform(1, 3, Device::new(Bytes::from_mib(64), Speed::NOMINAL))?;
//! let group = |degree, ranks: std::ops::Range<u32>, sequence| Group {
//!     strategy: Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Keep),
//!     ranks: ranks.map(Rank).collect(),
//!     sequences: vec![SequenceIndex(sequence)],
//! };
//! let groups = vec![group(2, 0..2, 0), group(1, 2..3, 1)];
//! let plan = Plan::new(vec![MicroBatch { groups }]);
//!
//! let costs = StepCosts::measured(&model, 4, 8192.0)?;
//! let mut events: Vec<TraceEvent> = Vec::new();
//! let step = simulate(&plan, &batch, &cluster, &costs, Overlap::default(), &mut events)?;
//! // 0.1 s of overhead, 1000 tokens of a millisecond on two devices, 0.1 ms of exchange for each token.
//! assert!((step.step.get() - 0.7).abs() < 1e-12);
//! assert!((predict_step(&plan, &batch, &cluster, &model).get() - 0.7).abs() < 1e-12);
//! // Rank 2 has 0.3 s to do.
//! assert!((step.ranks[2].usage.idle.get() - 0.4).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod chrome;
mod costs;
mod engine;
mod error;
mod outcome;
mod script;
mod simulate;

pub use chrome::{ChromeTraceWriter, TraceProblem, TraceSource, TraceSummary, check_chrome_trace};
pub use costs::{Overlap, ShardedBytes, StepCosts};
pub use error::SimError;
pub use lengthwise_network::LinkPlace;
pub use outcome::{SimulatedLink, SimulatedMicroBatch, SimulatedRank, SimulatedStep, Usage};
pub use simulate::simulate;
