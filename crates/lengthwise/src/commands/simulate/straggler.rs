//! Devices that turn out slower than planned with.

use lengthwise_core::{Cluster, Device, Rank, Speed};

use crate::failure::Failure;

/// A device that takes longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Straggler {
    rank: Rank,
    /// How many times as long.
    factor: f64,
}

/// Reads `RANK=FACTOR`.
pub(super) fn parse(text: &str) -> Result<Straggler, String> {
    let (rank, factor) = text
        .split_once('=')
        .ok_or("write it like 3=2, for rank 3 taking twice as long")?;
    let rank = rank
        .trim()
        .parse()
        .map_err(|_| "the rank is a whole number")?;
    let factor: f64 = factor
        .trim()
        .parse()
        .ok()
        .filter(|factor: &f64| (1.0..=1e6).contains(factor))
        .ok_or("the factor is a number from 1 to 1000000")?;
    Ok(Straggler {
        rank: Rank(rank),
        factor,
    })
}

/// The cluster as it turns out to be.
pub(super) fn slowed(cluster: &Cluster, stragglers: &[Straggler]) -> Result<Cluster, Failure> {
    let mut devices = cluster.devices().to_vec();
    let num_devices = devices.len();
    for (index, straggler) in stragglers.iter().enumerate() {
        let rank = straggler.rank;
        let before = stragglers[..index].iter();
        if before.into_iter().any(|other| other.rank == rank) {
            let message = format!("--slow: rank {rank} is listed twice; once is the rule");
            return Err(Failure::input(message));
        }
        let Some(device) = devices.get_mut(rank.index()) else {
            let message = format!(
                "--slow: there is no rank {rank}; the cluster's {num_devices} devices are ranks 0 to {}",
                num_devices - 1
            );
            return Err(Failure::input(message));
        };
        let speed = Speed::new(device.speed().get() / straggler.factor)
            .map_err(|error| Failure::input(format!("--slow: rank {rank}: {error}")))?;
        *device = Device::new(device.memory(), speed);
    }
    let nodes = (0..cluster.num_nodes()).map(|node| {
        let ranks = cluster.node_ranks(node).unwrap_or(0..0);
        devices[ranks.start as usize..ranks.end as usize].to_vec()
    });
    Cluster::from_nodes(nodes.collect()).map_err(|error| Failure::input(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::Bytes;

    #[test]
    fn stragglers_have_a_rank_and_a_factor() {
        let straggler = parse("3=2.5").unwrap();
        assert_eq!((straggler.rank, straggler.factor), (Rank(3), 2.5));
        for text in ["3", "a=2", "3=", "3=0.5", "3=nan", "3=inf", "-1=2", "3=-2"] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_slow_device_is_as_much_slower_than_it_was() {
        let half = Device::new(Bytes(1), Speed::new(0.5).unwrap());
        let cluster = Cluster::from_nodes(vec![vec![half; 2], vec![half; 1]]).unwrap();
        let slowed = slowed(&cluster, &[parse("2=4").unwrap()]).unwrap();
        let speeds: Vec<f64> = slowed.devices().iter().map(|d| d.speed().get()).collect();
        assert_eq!(speeds, [0.5, 0.5, 0.125]);
        assert_eq!(slowed.num_nodes(), 2);
        let twice = [parse("2=4").unwrap(), parse("2=3").unwrap()];
        let failure = super::slowed(&cluster, &twice).unwrap_err();
        assert!(failure.message().contains("rank 2 is listed twice"));
        let beyond = super::slowed(&cluster, &[parse("3=4").unwrap()]).unwrap_err();
        assert!(beyond.message().contains("there is no rank 3"));
    }
}
