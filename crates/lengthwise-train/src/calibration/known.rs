//! The costs that are known without measuring: what devices hold, and what described links take.

use std::collections::BTreeMap;

use lengthwise_comm::Emulation;
use lengthwise_core::{Activations, Degree, Exchange, Strategy, StrategyKind, StrategySpace};
use lengthwise_cost::{FittedCosts, HopCosts, HostCosts, KindCosts, RingCosts, Span};

use crate::model::ModelConfig;
use crate::{TrainOptions, memory};

/// Bytes of an element.
const ELEMENT: f64 = 4.0;

/// The work of attention's backward, in forwards (Dao, 2023).
const ATTENTION_BACKWARD: f64 = 2.5;

/// The work of the backward of all else, in forwards.
const LINEAR_BACKWARD: f64 = 2.0;

/// Memory of devices under the strategies of `space`; and times of hops of rings and copies to the host on an emulated
/// cluster, whose links are described. Elsewhere ranks compute whatever they send, so that none of it goes on beside
/// computing: then it is part of what is measured.
pub(crate) fn known_costs(options: &TrainOptions, space: &StrategySpace) -> FittedCosts {
    let model = &options.model;
    let mut kinds: BTreeMap<StrategyKind, KindCosts> = BTreeMap::new();
    for &strategy in space.strategies() {
        let kind = strategy.kind();
        let costs = kinds.entry(kind).or_default();
        let bytes = memory::bytes_per_token(model, strategy);
        costs
            .memory_bytes_per_token
            .push((strategy.degree(), bytes));
        if kind.activations == Activations::Host {
            costs.host = Some(host_costs(model, options.emulation.as_ref()));
        }
        if let Some(emulation) = &options.emulation
            && kind.exchange != Exchange::Ulysses
        {
            let ring = costs.ring.get_or_insert_with(|| RingCosts {
                forward_share: forward_share(kind.activations),
                ..RingCosts::default()
            });
            add_hops(
                &mut ring.one_node,
                model,
                emulation,
                strategy,
                Span::OneNode,
            );
            add_hops(
                &mut ring.many_nodes,
                model,
                emulation,
                strategy,
                Span::ManyNodes,
            );
        }
    }
    FittedCosts {
        fixed_memory_bytes: memory::fixed_bytes(model, options.cluster.num_devices() as usize),
        kinds,
        ..FittedCosts::default()
    }
}

/// The number of times that a layer's forward runs.
fn forwards(activations: Activations) -> f64 {
    if activations.recomputes() { 2.0 } else { 1.0 }
}

/// The part of attention that is forward, recomputation included.
fn forward_share(activations: Activations) -> f64 {
    let forwards = forwards(activations);
    forwards / (forwards + ATTENTION_BACKWARD)
}

/// Adds what a token that a rank holds takes in one hop of each pass, over all layers: keys and values, and in the backward
/// their gradients too.
fn add_hops(
    hops: &mut HopCosts,
    model: &ModelConfig,
    emulation: &Emulation,
    strategy: Strategy,
    span: Span,
) {
    let num_nodes = emulation.cluster().num_nodes();
    if span == Span::ManyNodes && num_nodes == 1 {
        return;
    }
    let ulysses = strategy.ulysses_degree();
    // Where they are fewer than the ranks of a place, each of these still needs one for all of its tokens.
    let kv_heads = model.kv_heads.max(ulysses.as_usize()).min(model.heads);
    let block = ELEMENT * 2.0 * (model.layers * kv_heads * model.head_dim) as f64;
    let hop = block / hop_bandwidth(emulation, ulysses, span);
    let degree = strategy.degree();
    let forward = hop * forwards(strategy.activations());
    hops.forward_s_per_token.push((degree, forward));
    hops.backward_s_per_token.push((degree, 2.0 * hop));
}

/// Bytes that a device passes on a second over the slowest hop. Where a ring crosses nodes, the devices of a place all
/// send to the next node at once and share its NICs.
fn hop_bandwidth(emulation: &Emulation, ulysses: Degree, span: Span) -> f64 {
    let links = emulation.links();
    let device = links.device.bandwidth_bytes_per_s();
    match span {
        Span::OneNode => device,
        Span::ManyNodes => {
            let nics = f64::from(links.nics_per_node.min(ulysses.get()).max(1));
            let of_each = nics / f64::from(ulysses.get());
            device.min(of_each * links.nic.bandwidth_bytes_per_s())
        }
    }
}

/// The copies of the inputs of all layers but the last, and the room that these take.
fn host_costs(model: &ModelConfig, emulation: Option<&Emulation>) -> HostCosts {
    let alone = Strategy::ulysses(Degree::ONE, Activations::Host);
    let bytes_per_token = memory::host_bytes_per_token(model, alone);
    let link = emulation.and_then(Emulation::host_link);
    HostCosts {
        // Dense work is most of what runs beside copies where they are long.
        forward_share: 1.0 / (2.0 + LINEAR_BACKWARD),
        copy_s_per_token: link.map_or(0.0, |link| bytes_per_token / link.bandwidth_bytes_per_s()),
        bytes_per_token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_that_is_run_again_is_more_of_attention() {
        assert!((forward_share(Activations::Keep) - 2.0 / 7.0).abs() < 1e-12);
        assert!((forward_share(Activations::Host) - 4.0 / 9.0).abs() < 1e-12);
    }
}
