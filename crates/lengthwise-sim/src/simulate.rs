//! Runs a step.

use lengthwise_core::{
    Bytes, Cluster, GlobalBatch, Group, MemoryModel, Plan, Rank, Seconds, TraceSink,
};
use lengthwise_network::{Network, Wiring};

use crate::SimError;
use crate::costs::{Overlap, StepCosts, Transport};
use crate::engine::Engine;
use crate::outcome::{SimulatedLink, SimulatedMicroBatch, SimulatedRank, SimulatedStep};
use crate::script::{Account, Meetings, Script};

/// Simulates one step of `plan`, and tells `sink` what every rank does when; `&mut ()` where nobody wants to know.
///
/// The speeds of `cluster`'s devices are those of the simulated step, whatever the plan was made for.
///
/// # Errors
///
/// The plan is none that this cluster can run, or its nodes have no NICs.
pub fn simulate(
    plan: &Plan,
    batch: &GlobalBatch,
    cluster: &Cluster,
    costs: &StepCosts<'_>,
    overlap: Overlap,
    sink: &mut impl TraceSink,
) -> Result<SimulatedStep, SimError> {
    plan.validate_assignment(batch, cluster)?;
    check_priced(plan, costs)?;
    let mut network = Network::new();
    let wiring = match costs.transport {
        Transport::Measured => None,
        Transport::Links { links, .. } => {
            let num_nodes = cluster.num_nodes();
            if links.nics_per_node == 0 && num_nodes > 1 {
                return Err(SimError::NoNics { num_nodes });
            }
            Some(Wiring::new(cluster, links, &mut network))
        }
    };
    let (mut script, Meetings { num_members }) = Script::new(
        (plan, batch, cluster),
        costs,
        overlap,
        wiring.as_ref(),
        &mut network,
        sink,
    );
    let mut engine = Engine::new(network, cluster.num_devices(), num_members);
    let ended = engine.run(&mut script).map_err(|stuck| SimError::Stuck {
        rank: Rank(stuck.process),
    })?;
    let step = Seconds::new(ended.at).unwrap_or(Seconds::ZERO);
    let links = wiring.iter().flat_map(Wiring::places).map(|(link, place)| {
        let network = engine.network();
        let bandwidth_bytes_per_s = network.capacity(link);
        let could_carry = bandwidth_bytes_per_s * step.get();
        let bytes = network.carried(link);
        SimulatedLink {
            place,
            bandwidth_bytes_per_s,
            bytes,
            utilisation: if could_carry > 0.0 {
                bytes / could_carry
            } else {
                0.0
            },
            peak_load: network.peak(link) / bandwidth_bytes_per_s,
        }
    });
    Ok(SimulatedStep {
        step,
        micro_batches: micro_batches(&script.account),
        ranks: ranks(plan, batch, cluster, costs.model, &script.account),
        links: links.collect(),
        num_events: ended.num_events,
    })
}

fn check_priced(plan: &Plan, costs: &StepCosts<'_>) -> Result<(), SimError> {
    for (micro_batch, groups) in plan.micro_batches().iter().enumerate() {
        for (group, Group { strategy, .. }) in groups.groups.iter().enumerate() {
            if !costs.model.prices(*strategy) {
                return Err(SimError::Unpriced {
                    micro_batch,
                    group,
                    strategy: *strategy,
                });
            }
        }
    }
    Ok(())
}

fn micro_batches(account: &Account) -> Vec<SimulatedMicroBatch> {
    let mut start = Seconds::ZERO;
    let ended = account.ends.iter().zip(&account.of_micro_batches);
    ended
        .map(|(&end, &usage)| {
            let makespan = end - start;
            let micro_batch = SimulatedMicroBatch {
                start,
                makespan,
                usage,
            };
            start = end;
            micro_batch
        })
        .collect()
}

fn ranks(
    plan: &Plan,
    batch: &GlobalBatch,
    cluster: &Cluster,
    memory: &(impl MemoryModel + ?Sized),
    account: &Account,
) -> Vec<SimulatedRank> {
    // On the device and on its host.
    let mut most = vec![(Bytes(0), Bytes(0)); account.of_ranks.len()];
    for group in plan.micro_batches().iter().flat_map(|m| &m.groups) {
        let on_device = memory.group_memory(group, batch);
        let on_host = memory.group_host_memory(group, batch);
        for rank in &group.ranks {
            let before = most[rank.index()];
            most[rank.index()] = (before.0.max(on_device), before.1.max(on_host));
        }
    }
    let used = account.of_ranks.iter().zip(cluster.devices()).zip(most);
    used.map(|((&usage, device), (on_device, on_host))| SimulatedRank {
        usage,
        peak_memory: device
            .memory()
            .saturating_sub(memory.budget(device))
            .saturating_add(on_device),
        peak_host_memory: on_host,
    })
    .collect()
}
