//! The bytes that a call moves.

use lengthwise_core::{Cluster, Rank};
use lengthwise_network::{Crossing, Wiring};

/// The bytes of a call that one member sends and receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It only has to be there.
    #[default]
    Nothing,
    /// All others receive so many bytes from it, passed on around a ring.
    Piece(u64),
    /// So many bytes come to it around a ring.
    Received(u64),
    /// So many bytes go from it to each member.
    Each(Vec<u64>),
}

/// What crosses links in a call whose `members` move this, by group rank; `ring` is what crosses in a ring over them for
/// each byte that each receives.
pub(crate) fn crossing(
    moved: &[Moved],
    members: &[Rank],
    ring: &Crossing,
    cluster: &Cluster,
    wiring: &Wiring,
) -> Crossing {
    if moved.iter().any(|moved| matches!(moved, Moved::Each(_))) {
        let bytes = |from: usize, to: usize| match &moved[from] {
            Moved::Each(bytes) => bytes.get(to).map_or(0.0, |&bytes| bytes as f64),
            _ => 0.0,
        };
        return wiring.uneven_exchange(members, cluster, bytes);
    }
    let pieces = moved.iter().filter_map(|moved| match moved {
        Moved::Piece(bytes) => Some(*bytes),
        _ => None,
    });
    let of_others = pieces.clone().sum::<u64>() - pieces.min().unwrap_or(0);
    let received = moved.iter().filter_map(|moved| match moved {
        Moved::Received(bytes) => Some(*bytes),
        _ => None,
    });
    // The member that receives most decides.
    let most = received.max().unwrap_or(0).max(of_others);
    ring.clone().times(most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Seconds, Speed};
    use lengthwise_cost::{ClusterLinks, Link};
    use lengthwise_network::Network;

    /// The bytes that cross each link when the devices of a node move this.
    fn crossed(moved: &[Moved]) -> Vec<f64> {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(1, 4, device).unwrap();
        let link = Link::new(1.0, Seconds::ZERO).unwrap();
        let links = ClusterLinks {
            device: link,
            nics_per_node: 1,
            nic: link,
        };
        let wiring = Wiring::new(&cluster, links, &mut Network::<()>::new());
        let members: Vec<Rank> = cluster.ranks().take(moved.len()).collect();
        let ring = wiring.ring(&members, &cluster);
        let crossing = crossing(moved, &members, &ring, &cluster, &wiring);
        crossing.links().iter().map(|&(_, bytes)| bytes).collect()
    }

    #[test]
    fn a_gather_brings_each_member_what_others_hold() {
        let pieces = [5, 7, 6].map(Moved::Piece);
        // The member that holds 5 of the 18 bytes receives most.
        assert_eq!(crossed(&pieces), [13.0; 3]);
    }

    #[test]
    fn a_reduction_takes_as_long_as_who_receives_most() {
        let received = [Moved::Received(3), Moved::Received(4)];
        assert_eq!(crossed(&received), [4.0; 2]);
        assert_eq!(crossed(&[Moved::Nothing, Moved::Nothing]), []);
    }

    #[test]
    fn an_exchange_crosses_what_is_not_kept() {
        let sent = [Moved::Each(vec![1000, 3]), Moved::Each(vec![1, 1000])];
        assert_eq!(crossed(&sent), [3.0, 3.0]);
    }
}
