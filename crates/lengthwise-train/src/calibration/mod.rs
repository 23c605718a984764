//! The costs of this machine, measured: briefly before training starts, or thoroughly for a profile.
//!
//! Micro-batches run through the executor itself, on all ranks at once, since ranks may share processors:
//!
//! ```text
//! first          one token a rank, a few short lengths, each degree inside a node and across nodes
//! then           what tells most of typical micro-batches for the time it takes, or a disturbed run once more
//! in between     one micro-batch again and again, which shows how the machine's speed drifts
//! for a profile  mixed groups of mixed lengths, which the fit does not see, spread over the time as well
//! until          the expected error of typical micro-batches is small, or time is up
//! ```

mod candidates;
mod clock;
mod held_out;
mod layout;
mod measuring;
mod profile;
mod survey;
mod trial;

use std::thread::available_parallelism;
use std::time::Duration;

use lengthwise_comm::Communicator;
use lengthwise_core::{Bytes, Degree, Seconds, StrategySpace};
use lengthwise_cost::{CoreSharing, FitReport, FittedCosts, KindCosts, Measurement, StepModel};

use crate::{TrainError, TrainOptions, memory};
use measuring::Measuring;

pub use clock::Clock;
pub use profile::{profile, profiled};

/// On emulated devices, which are slower, measuring may take longer in proportion: this is the part of a core that
/// times are meant for.
const USUAL_CORE_FRACTION: f64 = 0.25;

/// How thoroughly costs are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuringRule {
    /// What measuring should take; it may take a run longer.
    pub time_budget: Duration,
    /// Measuring ends where this relative error of typical micro-batches is expected.
    pub target_error: f64,
    /// Micro-batches are measured no more often than this to fit costs.
    pub most_rounds: u32,
    /// Whether every degree is measured, rather than powers of two.
    pub every_degree: bool,
    /// How many mixed micro-batches are held against the fit.
    pub num_held_out: u32,
    /// No run is started that may take longer.
    pub longest_run: Duration,
    /// What time is measured by. By the processor's, ranks must share all of its cores.
    pub clock: Clock,
}

impl MeasuringRule {
    /// Before training starts: some seconds.
    pub const BRIEF: MeasuringRule = MeasuringRule {
        time_budget: Duration::from_secs(4),
        target_error: 0.02,
        most_rounds: 24,
        every_degree: false,
        num_held_out: 0,
        longest_run: Duration::from_millis(1500),
        clock: Clock::Wall,
    };

    /// For a profile, within a time budget.
    pub fn thorough(time_budget: Duration) -> Self {
        MeasuringRule {
            time_budget,
            target_error: 0.005,
            most_rounds: 400,
            every_degree: true,
            num_held_out: 12,
            longest_run: time_budget / 12,
            clock: Clock::Wall,
        }
    }

    fn slower_by(self, factor: f64) -> Self {
        MeasuringRule {
            time_budget: self.time_budget.mul_f64(factor),
            longest_run: self.longest_run.mul_f64(factor),
            ..self
        }
    }
}

/// How far measuring has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuringProgress {
    /// Since it began.
    pub elapsed: Seconds,
    /// What it should take.
    pub time_budget: Seconds,
    /// Different micro-batches so far.
    pub num_trials: usize,
    /// The relative error that is to be expected of typical micro-batches.
    pub expected_error: f64,
}

/// What was measured, and what follows from it.
#[derive(Clone, Debug)]
pub struct MeasuredCosts {
    /// What steps take.
    pub model: StepModel,
    /// How well that fits.
    pub report: FitReport,
    /// All that was run.
    pub measurements: Vec<Measurement>,
    /// Bytes that a device was seen to hold for each of its own tokens.
    pub bytes_per_local_token: f64,
    /// Bytes that a device was seen to hold for each sequence of its group.
    pub bytes_per_sequence: f64,
}

/// The costs of a run's model on this world, the same on every rank.
///
/// # Errors
///
/// Another rank has failed, or a device is too small for even a short sequence.
pub fn calibrate<C: Communicator>(
    options: &TrainOptions,
    world: &C,
    space: &StrategySpace,
    device_memory: Bytes,
    rule: &MeasuringRule,
    progress: &(dyn Fn(MeasuringProgress) + Sync),
) -> Result<MeasuredCosts, TrainError> {
    let core_fraction = options.emulation.as_ref().map(|e| e.core_fraction());
    let slowness = core_fraction.map_or(1.0, |part| (USUAL_CORE_FRACTION / part).max(1.0));
    let rule = rule.slower_by(slowness);
    let mut measuring = Measuring::new(options, world, space, device_memory, rule)?;
    measuring.measure(progress)?;
    measuring.finish()
}

/// How the ranks of a run share the cores of this machine; emulated devices have each their own pace.
pub(crate) fn core_sharing(options: &TrainOptions) -> CoreSharing {
    let num_ranks = options.cluster.num_devices();
    match (&options.emulation, available_parallelism()) {
        (None, Ok(num_cores)) => CoreSharing::new(
            num_ranks,
            u32::try_from(num_cores.get()).unwrap_or(u32::MAX),
        ),
        _ => CoreSharing::apart(num_ranks),
    }
}

/// The costs that are known without measuring: what devices hold.
pub(crate) fn counted_memory(
    options: &TrainOptions,
    degrees: impl Iterator<Item = Degree>,
) -> FittedCosts {
    let (model, activations) = (&options.model, options.activations);
    let per_token = |degree| {
        let bytes = memory::bytes_per_token(model, degree, activations);
        (degree, bytes)
    };
    let costs = KindCosts {
        memory_bytes_per_token: degrees.map(per_token).collect(),
        ..KindCosts::default()
    };
    FittedCosts {
        fixed_memory_bytes: memory::fixed_bytes(model, options.cluster.num_devices() as usize),
        ..FittedCosts::of_kind(options.strategy_kind(), costs)
    }
}
