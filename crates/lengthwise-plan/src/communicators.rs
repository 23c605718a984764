//! A bound on the communicators that plans may ever need.

use lengthwise_core::{Cluster, Degree, StrategySpace};

use crate::PlanError;

/// The strategies of `space` whose groups need at most `max_communicators` communicators, over all plans there can be.
///
/// Groups of equal devices are laid out so that degrees that divide each other, and nodes, lie at multiples of
/// themselves. So degree `d` needs one communicator for each of the cluster's `N / d` runs of devices, and degree 1
/// none. Large degrees need few, so they are kept first.
///
/// # Errors
///
/// The cluster's nodes or devices differ, or the bound is too low for every degree.
pub(crate) fn affordable(
    space: &StrategySpace,
    cluster: &Cluster,
    max_communicators: u32,
) -> Result<StrategySpace, PlanError> {
    let per_node = cluster.node_ranks(0).map_or(0, |ranks| ranks.len() as u32);
    let first = cluster.devices()[0];
    let are_equal = cluster.devices().iter().all(|device| *device == first)
        && cluster.num_devices() == per_node * cluster.num_nodes() as u32;
    if !are_equal {
        return Err(PlanError::UnequalDevices { max_communicators });
    }
    let mut left = max_communicators;
    let mut last = cluster.num_devices();
    let mut kept: Vec<Degree> = Vec::new();
    let degrees: Vec<Degree> = space.degrees().collect();
    for &degree in degrees.iter().rev() {
        let d = degree.get();
        let lies_at_multiples = d <= last && last.is_multiple_of(d);
        let respects_nodes = per_node.is_multiple_of(d) || d.is_multiple_of(per_node);
        let needed = if d == 1 { 0 } else { cluster.num_devices() / d };
        if lies_at_multiples && respects_nodes && needed <= left && kept.last() != Some(&degree) {
            left -= needed;
            last = d;
            kept.push(degree);
        }
    }
    space
        .restricted_to(&kept)
        .map_err(|_| PlanError::TooFewCommunicators { max_communicators })
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, Bytes, Device, Speed};

    use super::*;

    #[test]
    fn large_degrees_are_kept_as_long_as_there_are_communicators_for_them() {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(8, 8, device).unwrap();
        let space = StrategySpace::ulysses_up_to(64, Activations::Recompute).unwrap();
        let kept = |max| {
            let space = affordable(&space, &cluster, max).unwrap();
            space.degrees().map(Degree::get).collect::<Vec<u32>>()
        };
        assert_eq!(kept(0), [1]);
        assert_eq!(kept(3), [1, 32, 64]);
        assert_eq!(kept(15), [1, 8, 16, 32, 64]);
        assert_eq!(kept(63), [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn clusters_of_unequal_nodes_have_no_bound() {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::with_num_devices(12, 8, device).unwrap();
        let space = StrategySpace::ulysses_up_to(8, Activations::Recompute).unwrap();
        assert!(affordable(&space, &cluster, 100).is_err());
    }
}
