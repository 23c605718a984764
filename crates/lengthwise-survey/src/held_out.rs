//! Micro-batches that the fit does not see, to tell how well it holds: mixed groups and mixed lengths, as plans have them.

use lengthwise_core::{Cluster, Degree, Rank, Strategy, StrategySpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A group with its ranks and the lengths of its sequences.
pub type MixedGroup = (Strategy, Vec<Rank>, Vec<u64>);

/// Groups of some of these strategies side by side, each with some sequences; each degree is as likely as another, and each
/// strategy of a degree.
///
/// Groups hold about as much work as each other, by what `seconds` says of a sequence under a strategy, and up to
/// `longest_s` of it; no more tokens than `most` under a strategy, no sequence longer than `context`.
pub fn mixed_groups(
    index: u64,
    space: &StrategySpace,
    cluster: &Cluster,
    context: u64,
    most: impl Fn(Strategy) -> u64,
    seconds: impl Fn(Strategy, u64) -> f64,
    longest_s: f64,
) -> Vec<MixedGroup> {
    let mut random = ChaCha8Rng::seed_from_u64(index);
    let mut groups = Vec::new();
    let num_ranks = cluster.num_devices();
    let mut next = 0;
    let work = longest_s * random.random_range(0.3..0.9);
    while next < num_ranks {
        let fitting: Vec<Degree> = space
            .degrees()
            .filter(|degree| degree.get() <= num_ranks - next)
            .collect();
        let Some(&degree) = fitting.get(random.random_range(0..fitting.len().max(1))) else {
            break;
        };
        let of_degree: Vec<Strategy> = (space.strategies().iter().copied())
            .filter(|strategy| strategy.degree() == degree)
            .collect();
        let which = match of_degree.len() {
            // Nothing is drawn where there is no choice.
            0 | 1 => 0,
            several => random.random_range(0..several),
        };
        let strategy = of_degree[which];
        let ranks = (next..next + degree.get()).map(Rank).collect();
        next += degree.get();
        let mut left_tokens = most(strategy).max(1);
        let mut left_work = work * random.random_range(0.6..1.0);
        let mut seq_lens = Vec::new();
        loop {
            let longest = (context.min(left_tokens) as f64).max(1.0);
            let shortest = 32f64.min(longest);
            // Each order of magnitude as often as another, as in a corpus.
            let drawn = shortest * (longest / shortest).powf(random.random::<f64>());
            let mut seq_len = (drawn as u64).clamp(1, longest as u64);
            while seq_len > 1 && seconds(strategy, seq_len) > left_work {
                seq_len /= 2;
            }
            seq_lens.push(seq_len);
            left_tokens -= seq_len;
            left_work -= seconds(strategy, seq_len);
            if left_tokens == 0 || left_work <= 0.1 * work || seq_lens.len() == 64 {
                break;
            }
        }
        groups.push((strategy, ranks, seq_lens));
    }
    groups
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, Bytes, Device, Speed};

    use super::*;

    #[test]
    fn groups_are_apart_and_hold_no_more_than_they_may() {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(1, 8, device).unwrap();
        let degree = |degree| Degree::new(degree).unwrap();
        let keep = Activations::Keep;
        let strategies = [1, 2, 3, 6].map(|of| Strategy::ulysses(degree(of), keep));
        let rings = [2, 6].map(|of| Strategy::ring(degree(of), keep));
        let space = StrategySpace::new(strategies.into_iter().chain(rings)).unwrap();
        let most = |strategy: Strategy| 500 * u64::from(strategy.degree().get());
        let seconds =
            |strategy: Strategy, seq_len| seq_len as f64 / f64::from(strategy.degree().get());
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..50 {
            let groups = mixed_groups(index, &space, &cluster, 800, most, seconds, 400.0);
            let again = mixed_groups(index, &space, &cluster, 800, most, seconds, 400.0);
            assert_eq!(groups, again);
            let mut ranks: Vec<Rank> = Vec::new();
            for (strategy, members, seq_lens) in groups {
                assert_eq!(members.len(), strategy.degree().as_usize());
                assert!(space.contains(strategy));
                seen.insert(strategy);
                assert!(seq_lens.iter().all(|seq_len| (1..=800).contains(seq_len)));
                let tokens: u64 = seq_lens.iter().sum();
                assert!(tokens <= most(strategy) && seconds(strategy, tokens) <= 401.0);
                ranks.extend(members);
            }
            ranks.sort();
            ranks.dedup();
            assert_eq!(ranks.len(), 8, "a rank idles or works twice");
        }
        assert_eq!(seen.len(), space.strategies().len());
    }
}
