//! The longest sequence that memory allows.

use lengthwise_core::{Cluster, Device, Strategy, Tokens};
use lengthwise_cost::CostModel;

/// No sequence is longer: from here on lengths are no exact floats.
pub(crate) const LONGEST: u64 = 1 << 53;

/// The longest sequence that any group of a strategy on a cluster has memory for, on its devices and their hosts: the device
/// with least memory decides. Memory does not fall with length.
pub(crate) fn longest_sequence(cost: &dyn CostModel, strategy: Strategy, cluster: &Cluster) -> u64 {
    let mut kinds: Vec<Device> = cluster.devices().to_vec();
    kinds.dedup();
    let fits = |tokens| {
        let mut kinds = kinds.iter();
        kinds.all(|device| cost.fits(device, strategy, Tokens(tokens)))
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
