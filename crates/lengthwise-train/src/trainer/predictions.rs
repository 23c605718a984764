//! Predictions of a step beyond its time as a whole: its parts, and memory.

use lengthwise_core::{Bytes, Cluster, Group, MemoryModel, Seconds};
use lengthwise_cost::StepModel;

use crate::feed::PlannedBatch;

/// When each group was predicted to end, without the micro-batch's overhead.
pub fn predicted_groups(planned: &PlannedBatch, cluster: &Cluster) -> Vec<Vec<Seconds>> {
    let ends = |micro_batch| {
        let model = &planned.costs.model;
        model.group_ends(micro_batch, &planned.global_batch, cluster)
    };
    planned
        .planned
        .plan
        .micro_batches()
        .iter()
        .map(ends)
        .collect()
}

/// The most that the fullest device was predicted to hold.
pub fn predicted_peak_memory(planned: &PlannedBatch, costs: &StepModel) -> Bytes {
    let fixed =
        Bytes::from_f64_ceil(costs.cost.costs().fixed_memory_bytes).unwrap_or(Bytes(u64::MAX));
    let of_group = |group: &Group| costs.cost.group_memory(group, &planned.global_batch);
    fixed.saturating_add(most_of_groups(planned, of_group))
}

/// The most that a device was predicted to hold on its host.
pub fn predicted_peak_host_memory(planned: &PlannedBatch, costs: &StepModel) -> Bytes {
    most_of_groups(planned, |group| {
        (costs.cost).group_host_memory(group, &planned.global_batch)
    })
}

fn most_of_groups(planned: &PlannedBatch, bytes: impl Fn(&Group) -> Bytes) -> Bytes {
    let micro_batches = planned.planned.plan.micro_batches().iter();
    let groups = micro_batches.flat_map(|micro_batch| &micro_batch.groups);
    groups.map(bytes).max().unwrap_or_default()
}
