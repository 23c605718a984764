//! The time of moving the inputs of layers to the host.

use super::architecture::Architecture;
use super::memory::layer_input_bytes_per_token;
use super::share::ModelShare;
use crate::{Hardware, HostCosts};

/// The part of a step's computing that is the first forward: of causal attention, `2` of `2 + 2 + 5` with its recomputation
/// ([`MatrixFlops`](super::MatrixFlops)); of products it is a little more, `2` of `2 + 2 + 4`.
const FORWARD_SHARE: f64 = 2.0 / 9.0;

/// The costs of moving the inputs of a device's layers over its link to the host, at all of that link's bandwidth: inputs
/// are large. `None` where no link is described.
pub(super) fn costs(
    architecture: &Architecture,
    hardware: &Hardware,
    share: ModelShare,
) -> Option<HostCosts> {
    let bandwidth = hardware.device().host_bandwidth_bytes_per_s()?;
    let of_all = layer_input_bytes_per_token(architecture, share);
    let of_stage = of_all / f64::from(share.pipeline_parallel());
    Some(HostCosts {
        forward_share: FORWARD_SHARE,
        copy_s_per_token: of_stage / bandwidth,
        bytes_per_token: of_all,
    })
}
