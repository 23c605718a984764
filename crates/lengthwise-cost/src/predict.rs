//! Predictions for whole plans, by the same sums that planners use for single sequences.

use lengthwise_core::{Cluster, GlobalBatch, Group, MicroBatch, Plan, Seconds, Speed};

use crate::{CostModel, GroupShape};

/// The time of a group without the micro-batch's overhead: its sequences' times, at the pace of its slowest
/// device.
pub fn predict_group(
    group: &Group,
    batch: &GlobalBatch,
    cluster: &Cluster,
    cost: &(impl CostModel + ?Sized),
) -> Seconds {
    let shape = GroupShape::of(group, cluster);
    let seq_lens = group
        .sequences
        .iter()
        .filter_map(|&sequence| batch.seq_len(sequence));
    let nominal: Seconds = seq_lens
        .map(|seq_len| cost.sequence_time(shape, seq_len))
        .sum();
    nominal / slowest_speed(group, cluster)
}

/// The speed of the slowest device of a group, at whose pace it works.
pub fn slowest_speed(group: &Group, cluster: &Cluster) -> Speed {
    let devices = group.ranks.iter().filter_map(|&rank| cluster.device(rank));
    let speeds = devices.map(|device| device.speed());
    speeds.reduce(Speed::min).unwrap_or(Speed::NOMINAL)
}

/// The makespan of a micro-batch, its overhead included.
pub fn predict_micro_batch(
    micro_batch: &MicroBatch,
    batch: &GlobalBatch,
    cluster: &Cluster,
    cost: &(impl CostModel + ?Sized),
) -> Seconds {
    let groups = micro_batch
        .groups
        .iter()
        .map(|group| predict_group(group, batch, cluster, cost));
    cost.micro_batch_overhead() + groups.fold(Seconds::ZERO, Seconds::max)
}

/// The time of a step: its micro-batches run one after the other.
pub fn predict_step(
    plan: &Plan,
    batch: &GlobalBatch,
    cluster: &Cluster,
    cost: &(impl CostModel + ?Sized),
) -> Seconds {
    plan.micro_batches()
        .iter()
        .map(|micro_batch| predict_micro_batch(micro_batch, batch, cluster, cost))
        .sum()
}
