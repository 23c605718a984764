//! The ranks of a run: a thread for each device of its cluster.

use lengthwise_comm::{
    FailureCause, RankFailure, ThreadCommunicator, WorldOptions, run_ranks_with,
};
use lengthwise_tensor::CpuBackend;

use crate::{TrainError, TrainOptions};

pub fn backends(options: &TrainOptions) -> Vec<CpuBackend> {
    let devices = options.cluster.devices().iter();
    devices
        .map(|device| CpuBackend::new(device.memory()))
        .collect()
}

/// Runs `body` on every rank, at the pace of the emulated cluster if there is one.
pub fn run_world<R: Send>(
    options: &TrainOptions,
    backends: Vec<CpuBackend>,
    body: impl Fn(ThreadCommunicator<CpuBackend>) -> Result<R, TrainError> + Sync,
) -> Result<Vec<R>, TrainError> {
    let world = WorldOptions {
        emulation: options.emulation.clone(),
        longest_wait: options.longest_wait,
    };
    run_ranks_with(backends, &world, body).map_err(first_failure)
}

fn first_failure(failure: RankFailure<TrainError>) -> TrainError {
    match failure {
        RankFailure {
            cause: FailureCause::Error(error),
            ..
        } => error,
        RankFailure { rank, cause } => TrainError::RankFailed {
            rank,
            reason: cause.to_string(),
        },
    }
}
