//! How long key/value blocks of a ring are on their way.

use lengthwise_core::Degree;

use super::architecture::Architecture;
use super::share::ModelShare;
use super::travel::key_value_width;
use crate::{Hardware, Span};

/// The part of attention's FLOP that is forward, recomputation included: `2 + 2 c` of `7 + 2 c`, where `c` of the layers
/// recompute it ([`MatrixFlops`](super::MatrixFlops)).
pub(super) fn forward_share(architecture: &Architecture) -> f64 {
    let recomputed = recomputed(architecture);
    (2.0 + 2.0 * recomputed) / (7.0 + 2.0 * recomputed)
}

/// Bytes of a token's keys and values in every layer of a stage, as a device of a place of so many ranks holds them.
///
/// Ranks of a place each have their part of the heads of all of its tokens, which is as much as all heads of their own.
pub(super) fn block_bytes_per_token(
    architecture: &Architecture,
    share: ModelShare,
    ulysses: Degree,
) -> f64 {
    let keys = key_value_width(architecture, share, ulysses);
    share.layers(architecture) * architecture.data_type.bytes() * 2.0 * keys
}

/// Seconds of the hops of a pass for each token that a rank holds: forward, with what is recomputed, and backward, which
/// sends the gradients of keys and values too, in the precision of activations as Transformer Engine does.
pub(super) fn hop_s_per_token(
    architecture: &Architecture,
    hardware: &Hardware,
    share: ModelShare,
    ulysses: Degree,
    span: Span,
) -> (f64, f64) {
    let bytes = block_bytes_per_token(architecture, share, ulysses);
    let seconds = bytes / hop_bandwidth_bytes_per_s(hardware, share, ulysses, span);
    let forwards = 1.0 + recomputed(architecture);
    (seconds * forwards, seconds * 2.0)
}

/// Bytes that each device passes on a second over the slowest hop, at all of the links' bandwidth: blocks are large and
/// go to one neighbour.
///
/// Where a ring crosses nodes, the devices of one place all send to the next node at once and share its NICs.
fn hop_bandwidth_bytes_per_s(
    hardware: &Hardware,
    share: ModelShare,
    ulysses: Degree,
    span: Span,
) -> f64 {
    let links = hardware.links();
    let device = links.device.bandwidth_bytes_per_s();
    match span {
        Span::OneNode => device,
        Span::ManyNodes => {
            let per_node = hardware.devices_per_node();
            let sending = ulysses.get().saturating_mul(share.tensor_parallel());
            let sending = f64::from(sending.min(per_node));
            let nics = f64::from(links.nics_per_node.min(per_node));
            let of_each = (nics / sending).min(1.0);
            device.min(of_each * links.nic.bandwidth_bytes_per_s())
        }
    }
}

/// Bytes for each token that a rank holds, of blocks in flight: at most two beside its own, one that arrives while
/// another is sent on, each of keys, values and their gradients in the backward of a layer.
pub(super) fn in_flight_bytes_per_token(
    architecture: &Architecture,
    share: ModelShare,
    ulysses: Degree,
) -> f64 {
    let keys = key_value_width(architecture, share, ulysses);
    2.0 * architecture.data_type.bytes() * 4.0 * keys
}

/// The part of the layers whose attention is recomputed.
pub(super) fn recomputed(architecture: &Architecture) -> f64 {
    let (_, attention) = architecture.recomputation.shares(architecture.num_layers);
    attention
}
