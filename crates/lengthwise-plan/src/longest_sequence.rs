//! The longest sequence that memory allows.

use lengthwise_core::{Bytes, Cluster, Strategy, Tokens};
use lengthwise_cost::CostModel;

/// No sequence is longer: from here on lengths are no exact floats.
pub(crate) const LONGEST: u64 = 1 << 53;

/// The longest sequence that any group of a strategy on a cluster has memory for, on its devices and their hosts: the device
/// with least memory decides. Memory does not fall with length.
pub(crate) fn longest_sequence(cost: &dyn CostModel, strategy: Strategy, cluster: &Cluster) -> u64 {
    let devices = || cluster.devices().iter();
    let budget = devices().map(|device| cost.budget(device)).min();
    let budget = budget.unwrap_or(Bytes(0));
    let host_budget = devices().map(|device| cost.host_budget(device)).min();
    let host_budget = host_budget.unwrap_or(Bytes(0));
    let fits = |tokens| {
        cost.sequence_memory(strategy, Tokens(tokens)) <= budget
            && cost.host_memory(strategy, Tokens(tokens)) <= host_budget
    };
    if fits(LONGEST) {
        return LONGEST;
    }
    let (mut most, mut too_many) = (0, LONGEST);
    while too_many - most > 1 {
        let between = most + (too_many - most) / 2;
        if fits(between) {
            most = between;
        } else {
            too_many = between;
        }
    }
    most
}
