//! The costs of this machine, measured: briefly before training starts, or thoroughly for a profile.
//!
//! Micro-batches run through the executor itself, on all ranks at once, since ranks may share processors. Which ones,
//! a [`Survey`](lengthwise_survey::Survey) decides.
//
mod clock;
mod known;
mod measuring;
mod profile;
mod running;

use std::thread::available_parallelism;
use std::time::Duration;

use lengthwise_comm::Communicator;
use lengthwise_core::{Bytes, Seconds, StrategySpace};
use lengthwise_cost::CoreSharing;
use lengthwise_survey::{MeasuredCosts, SurveyRule, Surveyed};

use crate::{TrainError, TrainOptions};
use measuring::Measuring;

pub use clock::Clock;
pub(crate) use known::known_costs;
pub use profile::{profile, profiled};

/// On emulated devices, which are slower, measuring may take longer in proportion: this is the part of a core that
/// times are meant for.
const USUAL_CORE_FRACTION: f64 = 0.25;

/// The thoroughness of measuring costs, and its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuringRule {
    /// The thoroughness.
    pub survey: SurveyRule,
    /// The clock that time is measured by. By the processor's, ranks must share all of its cores.
    pub clock: Clock,
}

impl MeasuringRule {
    /// Before training starts: some seconds.
    pub const BRIEF: MeasuringRule = MeasuringRule {
        survey: SurveyRule::BRIEF,
        clock: Clock::Wall,
    };

    /// For a profile, within a time budget.
    pub fn thorough(time_budget: Duration) -> Self {
        MeasuringRule {
            survey: SurveyRule::thorough(time_budget),
            clock: Clock::Wall,
        }
    }
}

/// The progress of measuring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuringProgress {
    /// Since it began.
    pub elapsed: Seconds,
    /// The time that it should take.
    pub time_budget: Seconds,
    /// Different micro-batches so far.
    pub num_trials: usize,
    /// The relative error that is to be expected of typical micro-batches.
    pub expected_error: f64,
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
    let rule = MeasuringRule {
        survey: rule.survey.slower_by(slowness),
        ..*rule
    };
    let surveyed = surveyed(options, space, device_memory, rule.clock);
    let mut measuring = Measuring::new(options, world, surveyed, rule)?;
    measuring.measure(progress)?;
    measuring.finish()
}

/// A run, as far as it is known without measuring.
pub(crate) fn surveyed(
    options: &TrainOptions,
    space: &StrategySpace,
    device_memory: Bytes,
    clock: Clock,
) -> Surveyed {
    let num_ranks = options.cluster.num_devices();
    let sharing = core_sharing(options);
    Surveyed {
        cluster: options.cluster.clone(),
        space: space.clone(),
        context: options.context,
        // A rank with fewer heads leaves a shared core to the others.
        num_heads: (!sharing.is_shared()).then_some(options.model.heads as u32),
        sharing,
        sharing_by_clock: match clock {
            // It counts work, whoever does it meanwhile.
            Clock::Processor { .. } => CoreSharing::new(num_ranks, 1),
            Clock::Wall => sharing,
        },
        device_memory,
        known: known_costs(options, space),
    }
}

/// The part of this machine's cores that each rank of a run has; emulated devices have each their own pace.
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
