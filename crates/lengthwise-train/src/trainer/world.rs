//! The ranks of a run: a thread for each device of its cluster.

use std::ops::Range;

use lengthwise_comm::{
    FailureCause, RankFailure, ThreadCommunicator, WorldOptions, run_ranks_with,
};
use lengthwise_core::Bytes;
use lengthwise_tensor::{CpuBackend, HostMemory};

use crate::{TrainError, TrainOptions};

/// A device for each rank; those of a node share the memory of its host.
pub fn backends(options: &TrainOptions) -> Vec<CpuBackend> {
    let cluster = &options.cluster;
    let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
    let of_node = |ranks: Range<u32>| {
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let shares = devices.iter().map(|device| device.host_memory());
        let host = HostMemory::new(shares.fold(Bytes(0), Bytes::saturating_add));
        devices
            .iter()
            .map(move |device| CpuBackend::new(device.memory()).on_host(host.clone()))
    };
    nodes.flat_map(of_node).collect()
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
