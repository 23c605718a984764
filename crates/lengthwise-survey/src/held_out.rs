//! Micro-batches that the fit does not see, to tell how well it holds: mixed groups and mixed lengths, as plans have them.

use lengthwise_core::{Cluster, Degree, Rank};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Groups of some of these degrees side by side, each with some sequences: ranks and lengths of each.
///
/// Groups hold about as much work as each other, by what `seconds` says of a sequence at a degree, and up to `longest_s`
/// of it; no more tokens than `most` of a degree, no sequence longer than `context`.
pub fn mixed_groups(
    index: u64,
    degrees: &[Degree],
    cluster: &Cluster,
    context: u64,
    most: impl Fn(Degree) -> u64,
    seconds: impl Fn(Degree, u64) -> f64,
    longest_s: f64,
) -> Vec<(Vec<Rank>, Vec<u64>)> {
    let mut random = ChaCha8Rng::seed_from_u64(index);
    let mut groups = Vec::new();
    let num_ranks = cluster.num_devices();
    let mut next = 0;
    let work = longest_s * random.random_range(0.3..0.9);
    while next < num_ranks {
        let fitting: Vec<Degree> = degrees
            .iter()
            .copied()
            .filter(|degree| degree.get() <= num_ranks - next)
            .collect();
        let Some(&degree) = fitting.get(random.random_range(0..fitting.len().max(1))) else {
            break;
        };
        let ranks = (next..next + degree.get()).map(Rank).collect();
        next += degree.get();
        let mut left_tokens = most(degree).max(1);
        let mut left_work = work * random.random_range(0.6..1.0);
        let mut seq_lens = Vec::new();
        loop {
            let longest = (context.min(left_tokens) as f64).max(1.0);
            let shortest = 32f64.min(longest);
            // Each order of magnitude as often as another, as in a corpus.
            let drawn = shortest * (longest / shortest).powf(random.random::<f64>());
            let mut seq_len = (drawn as u64).clamp(1, longest as u64);
            while seq_len > 1 && seconds(degree, seq_len) > left_work {
                seq_len /= 2;
            }
            seq_lens.push(seq_len);
            left_tokens -= seq_len;
            left_work -= seconds(degree, seq_len);
            if left_tokens == 0 || left_work <= 0.1 * work || seq_lens.len() == 64 {
                break;
            }
        }
        groups.push((ranks, seq_lens));
    }
    groups
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Bytes, Device, Speed};

    use super::*;

    #[test]
    fn groups_are_apart_and_hold_no_more_than_they_may() {
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(1, 8, device).unwrap();
        let degrees = [1, 2, 3, 6].map(|degree| Degree::new(degree).unwrap());
        let most = |degree: Degree| 500 * u64::from(degree.get());
        let seconds = |degree: Degree, seq_len| seq_len as f64 / f64::from(degree.get());
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..50 {
            let groups = mixed_groups(index, &degrees, &cluster, 800, most, seconds, 400.0);
            let again = mixed_groups(index, &degrees, &cluster, 800, most, seconds, 400.0);
            assert_eq!(groups, again);
            let mut ranks: Vec<Rank> = Vec::new();
            for (members, seq_lens) in groups {
                let degree = Degree::new(members.len() as u32).unwrap();
                assert!(degrees.contains(&degree));
                seen.insert(degree);
                assert!(seq_lens.iter().all(|seq_len| (1..=800).contains(seq_len)));
                let tokens: u64 = seq_lens.iter().sum();
                assert!(tokens <= most(degree) && seconds(degree, tokens) <= 401.0);
                ranks.extend(members);
            }
            ranks.sort();
            ranks.dedup();
            assert_eq!(ranks.len(), 8, "a rank idles or works twice");
        }
        assert_eq!(seen.len(), degrees.len());
    }
}
