//! How long what travels takes: exchanges inside groups, tensor-parallel sums, and the gathers and scatters of every
//! micro-batch.

use lengthwise_core::Degree;

use super::architecture::Architecture;
use super::share::ModelShare;
use crate::{Hardware, Span};

/// The part of gathers and scatters that computing does not hide. The overheads published with FlexSP are 0.82 to 0.90 of
/// two gathers and a scatter over its cluster's NICs.
const EXPOSED: f64 = 0.85;

/// Collectives of a layer in a micro-batch: two gathers, a scatter, and queries with keys and values, and attention's
/// output, exchanged forward and backward.
const CALLS_PER_LAYER: f64 = 3.0 + 4.0;

/// The width of the keys, or of the values, that a device's tensor-parallel part of a token has in a group where so many
/// ranks exchange tokens for heads: where they exceed the key/value heads, every rank still needs one.
pub(super) fn key_value_width(
    architecture: &Architecture,
    share: ModelShare,
    ulysses: Degree,
) -> f64 {
    let tensor_parallel = share.tensor_parallel();
    let kv_heads = (architecture.num_kv_heads / tensor_parallel).max(ulysses.get());
    let kv_heads = kv_heads.min(architecture.num_heads / tensor_parallel);
    f64::from(kv_heads) * f64::from(architecture.head_dim)
}

/// Bytes that all exchanges of a step pass on for each token, over the devices of a group of this degree together; of
/// tensor-parallel neighbours and stages, those of one.
///
/// Queries, keys, values and output travel once forward, once for each recomputation, and their gradients once
/// backward.
pub(super) fn exchange_bytes_per_token(
    architecture: &Architecture,
    share: ModelShare,
    degree: Degree,
) -> f64 {
    let (_, recomputed) = architecture.recomputation.shares(architecture.num_layers);
    let keys = key_value_width(architecture, share, degree);
    let queries = architecture.query_width() * share.of_layer();
    let once = architecture.data_type.bytes() * 2.0 * (queries + keys);
    share.layers(architecture) * once * (2.0 + recomputed)
}

/// Seconds that exchanges take for each token of a group of this degree.
///
/// Every device shares out what it has equally among all of its group: what stays in the node crosses devices'
/// links, what leaves it crosses NICs, which all devices of a node share, as they do when all of them exchange. The
/// slower of the two counts.
pub(super) fn exchange_s_per_token(
    architecture: &Architecture,
    hardware: &Hardware,
    share: ModelShare,
    degree: Degree,
    span: Span,
) -> f64 {
    let (links, efficiency) = (hardware.links(), hardware.exchange_efficiency());
    let members = f64::from(degree.get());
    let devices_per_node = f64::from(hardware.devices_per_node());
    let here = match span {
        Span::OneNode => members,
        Span::ManyNodes => {
            let ranks_per_node = f64::from(share.ranks_per_node(hardware));
            let nodes = (members / ranks_per_node).ceil().max(2.0);
            members / nodes
        }
    };
    let in_node = ((here - 1.0) / members).max(0.0)
        / (links.device.bandwidth_bytes_per_s() * efficiency.in_node());
    let crossing = (members - here) / members;
    let across = if crossing > 0.0 {
        let nics = f64::from(links.nics_per_node.min(hardware.devices_per_node()));
        let node_bandwidth = nics * links.nic.bandwidth_bytes_per_s() * efficiency.across_nodes();
        crossing * devices_per_node / node_bandwidth
    } else {
        0.0
    };
    exchange_bytes_per_token(architecture, share, degree) / members * in_node.max(across)
}

/// Seconds that tensor-parallel neighbours take for each token to sum up what they computed: an all-reduce of its hidden
/// state behind attention and one behind the MLP, in every forward and in the backward, each of which passes
/// `2 (t - 1) / t` of its bytes over every device's link (Megatron-LM, arXiv 1909.08053). None of it is hidden.
pub(super) fn tensor_parallel_s_per_token(
    architecture: &Architecture,
    hardware: &Hardware,
    share: ModelShare,
) -> f64 {
    let (mlp, attention) = architecture.recomputation.shares(architecture.num_layers);
    let sums = share.layers(architecture) * (2.0 + mlp + 2.0 + attention);
    let bytes = architecture.data_type.bytes() * f64::from(architecture.hidden);
    let passed_on = 2.0 * (1.0 - share.of_layer()) * bytes;
    sums * passed_on / hardware.links().device.bandwidth_bytes_per_s()
}

/// Seconds that a micro-batch takes whatever its groups hold: parameters are gathered for the forward and for the
/// backward, gradients scattered, as far as computing does not hide it, and every collective pays its latency.
///
/// Over NICs a node fetches the parts of all of its tensor-parallel devices; within a node, each device fetches its own.
pub(super) fn micro_batch_overhead_s(
    architecture: &Architecture,
    hardware: &Hardware,
    share: ModelShare,
) -> f64 {
    if share.num_ranks(hardware) == 1 {
        return 0.0;
    }
    let num_ranks = f64::from(share.num_ranks(hardware));
    let ranks_per_node = f64::from(share.ranks_per_node(hardware)).min(num_ranks);
    let links = hardware.links();
    let bytes = architecture.data_type.bytes() * share.stage_parameters(architecture);
    let one_node = ranks_per_node >= num_ranks;
    let (once, latency) = if one_node {
        let from_others = (num_ranks - 1.0) / num_ranks;
        let of_device = bytes * share.of_layer();
        let time = of_device * from_others / links.device.bandwidth_bytes_per_s();
        (time, links.device.latency())
    } else {
        let from_others = (num_ranks - ranks_per_node) / num_ranks;
        let nics = f64::from(links.nics_per_node.min(hardware.devices_per_node()));
        let time = bytes * from_others / (nics * links.nic.bandwidth_bytes_per_s());
        (time, links.nic.latency().max(links.device.latency()))
    };
    let calls = CALLS_PER_LAYER * share.layers(architecture);
    EXPOSED * 3.0 * once + calls * latency.get()
}
