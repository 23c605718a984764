//! How long what travels takes: exchanges inside groups, and the gathers and scatters of every micro-batch.

use lengthwise_core::Degree;

use super::architecture::Architecture;
use crate::{Hardware, Span};

/// The part of gathers and scatters that computing does not hide. The overheads published with FlexSP are 0.82 to 0.90 of
/// two gathers and a scatter over its cluster's NICs.
const EXPOSED: f64 = 0.85;

/// Collectives of a layer in a micro-batch: two gathers, a scatter, and queries with keys and values, and attention's
/// output, exchanged forward and backward.
const CALLS_PER_LAYER: f64 = 3.0 + 4.0;

/// Bytes that all exchanges of a step pass on for each token, over the devices of a group of this degree together.
///
/// Queries, keys, values and output travel once forward, once for each recomputation, and their gradients once
/// backward. Where the degree exceeds the key/value heads, every rank still needs one.
pub(super) fn exchange_bytes_per_token(architecture: &Architecture, degree: Degree) -> f64 {
    let (_, recomputed) = architecture.recomputation.shares(architecture.num_layers);
    let kv_heads = architecture.num_kv_heads.max(degree.get());
    let kv_heads = kv_heads.min(architecture.num_heads);
    let keys = f64::from(kv_heads) * f64::from(architecture.head_dim);
    let once = architecture.data_type.bytes() * 2.0 * (architecture.query_width() + keys);
    f64::from(architecture.num_layers) * once * (2.0 + recomputed)
}

/// Seconds that exchanges take for each token of a group of this degree.
///
/// Every device shares out what it has equally among all of its group: what stays in the node crosses devices'
/// links, what leaves it crosses NICs, which all devices of a node share, as they do when all of them exchange. The
/// slower of the two counts.
pub(super) fn exchange_s_per_token(
    architecture: &Architecture,
    hardware: &Hardware,
    degree: Degree,
    span: Span,
) -> f64 {
    let (links, efficiency) = (hardware.links(), hardware.exchange_efficiency());
    let members = f64::from(degree.get());
    let devices_per_node = f64::from(hardware.devices_per_node());
    let here = match span {
        Span::OneNode => members,
        Span::ManyNodes => {
            let nodes = (members / devices_per_node).ceil().max(2.0);
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
    exchange_bytes_per_token(architecture, degree) / members * in_node.max(across)
}

/// Seconds that a micro-batch takes whatever its groups hold: parameters are gathered for the forward and for the
/// backward, gradients scattered, as far as computing does not hide it, and every collective pays its latency.
pub(super) fn micro_batch_overhead_s(architecture: &Architecture, hardware: &Hardware) -> f64 {
    let num_devices = f64::from(hardware.num_devices());
    if hardware.num_devices() == 1 {
        return 0.0;
    }
    let devices_per_node = f64::from(hardware.devices_per_node()).min(num_devices);
    let links = hardware.links();
    let bytes = architecture.data_type.bytes() * architecture.num_parameters();
    let one_node = devices_per_node >= num_devices;
    let (once, latency) = if one_node {
        let from_others = (num_devices - 1.0) / num_devices;
        let time = bytes * from_others / links.device.bandwidth_bytes_per_s();
        (time, links.device.latency())
    } else {
        let from_others = (num_devices - devices_per_node) / num_devices;
        let nics = f64::from(links.nics_per_node.min(hardware.devices_per_node()));
        let time = bytes * from_others / (nics * links.nic.bandwidth_bytes_per_s());
        (time, links.nic.latency().max(links.device.latency()))
    };
    let calls = CALLS_PER_LAYER * f64::from(architecture.num_layers);
    EXPOSED * 3.0 * once + calls * latency.get()
}
