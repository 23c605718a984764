//! What a call moves.

use lengthwise_core::{Cluster, Rank};
use lengthwise_network::{Crossing, Wiring};

/// What one member has to do with the bytes of a call.
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

/// How a call's bytes go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Way {
    /// From each to each: what crosses which link.
    Exchange(Crossing),
    /// Around a ring: what the member receives that receives most.
    Ring(f64),
}

/// The way of a call whose `members` move this, by group rank.
pub(crate) fn way(moved: &[Moved], members: &[Rank], cluster: &Cluster, wiring: &Wiring) -> Way {
    if moved.iter().any(|moved| matches!(moved, Moved::Each(_))) {
        let bytes = |from: usize, to: usize| match &moved[from] {
            Moved::Each(bytes) => bytes.get(to).map_or(0.0, |&bytes| bytes as f64),
            _ => 0.0,
        };
        return Way::Exchange(wiring.uneven_exchange(members, cluster, bytes));
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
    let most = received.max().unwrap_or(0).max(of_others);
    Way::Ring(most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Seconds, Speed};
    use lengthwise_cost::{ClusterLinks, Link};
    use lengthwise_network::Network;

    fn way_of(moved: &[Moved]) -> Way {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(2, 2, device).unwrap();
        let link = Link::new(1.0, Seconds::ZERO).unwrap();
        let links = ClusterLinks {
            device: link,
            nics_per_node: 1,
            nic: link,
        };
        let wiring = Wiring::new(&cluster, links, &mut Network::<()>::new());
        let members: Vec<Rank> = cluster.ranks().take(moved.len()).collect();
        way(moved, &members, &cluster, &wiring)
    }

    #[test]
    fn a_gather_brings_each_member_what_others_hold() {
        let pieces = [5, 7, 6].map(Moved::Piece);
        // Who holds 5 of the 18 bytes receives most.
        assert_eq!(way_of(&pieces), Way::Ring(13.0));
    }

    #[test]
    fn a_reduction_takes_as_long_as_who_receives_most() {
        let received = [Moved::Received(3), Moved::Received(4)];
        assert_eq!(way_of(&received), Way::Ring(4.0));
        assert_eq!(way_of(&[Moved::Nothing, Moved::Nothing]), Way::Ring(0.0));
    }

    #[test]
    fn an_exchange_crosses_what_is_not_kept() {
        let sent = [Moved::Each(vec![1000, 3]), Moved::Each(vec![1, 1000])];
        let Way::Exchange(crossing) = way_of(&sent) else {
            panic!("not an exchange")
        };
        let bytes: Vec<f64> = crossing.links().iter().map(|&(_, bytes)| bytes).collect();
        assert_eq!(bytes, [3.0, 3.0]);
    }
}
