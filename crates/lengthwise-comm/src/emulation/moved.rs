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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// From each to each.
    Exchange,
    /// Around a ring.
    Ring,
}

/// The way and the volume of a call whose `members` move this, by group rank.
///
/// A ring's volume is what the member receives that receives most. An exchange's is the least that brings every
/// link of `even`, the crossing of an even exchange among these members, at least its bytes.
pub(crate) fn volume(
    moved: &[Moved],
    members: &[Rank],
    cluster: &Cluster,
    wiring: &Wiring,
    even: &Crossing,
) -> (Way, f64) {
    if moved.iter().any(|moved| matches!(moved, Moved::Each(_))) {
        let bytes = |from: usize, to: usize| match &moved[from] {
            Moved::Each(bytes) => bytes.get(to).map_or(0.0, |&bytes| bytes as f64),
            _ => 0.0,
        };
        let crossing = wiring.uneven_exchange(members, cluster, bytes);
        return (Way::Exchange, even.volume_of(&crossing));
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
    (Way::Ring, most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Bytes, Device, Seconds, Speed};
    use lengthwise_cost::{ClusterLinks, Link};
    use lengthwise_network::Network;

    fn volume_of(moved: &[Moved]) -> (Way, f64) {
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
        let even = wiring.exchange(&members, &cluster);
        volume(moved, &members, &cluster, &wiring, &even)
    }

    #[test]
    fn a_gather_brings_each_member_what_others_hold() {
        let pieces = [5, 7, 6].map(Moved::Piece);
        // Who holds 5 of the 18 bytes receives most.
        assert_eq!(volume_of(&pieces), (Way::Ring, 13.0));
    }

    #[test]
    fn a_reduction_takes_as_long_as_who_receives_most() {
        assert_eq!(
            volume_of(&[Moved::Received(3), Moved::Received(4)]),
            (Way::Ring, 4.0)
        );
        assert_eq!(
            volume_of(&[Moved::Nothing, Moved::Nothing]),
            (Way::Ring, 0.0)
        );
    }

    #[test]
    fn an_even_exchange_has_the_volume_of_what_each_member_shares_out() {
        let each = Moved::Each(vec![10; 4]);
        let (way, volume) = volume_of(&[each.clone(), each.clone(), each.clone(), each]);
        assert_eq!(way, Way::Exchange);
        assert!((volume - 40.0).abs() < 1e-9, "{volume}");
    }

    #[test]
    fn what_a_member_keeps_crosses_nothing() {
        let (_, volume) = volume_of(&[Moved::Each(vec![1000, 3]), Moved::Each(vec![1, 1000])]);
        assert!((volume - 6.0).abs() < 1e-9, "{volume}");
    }
}
