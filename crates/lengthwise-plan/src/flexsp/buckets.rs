//! The published algorithm's simplification of a micro-batch: buckets of few distinct lengths.

use lengthwise_core::Tokens;

/// Sequences of similar lengths, all taken to be as long as the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The class of the longest.
    pub(super) class: usize,
    /// The class of every sequence.
    pub(super) members: Vec<usize>,
}

/// Groups sequences, given as classes in increasing order, into at most `num` buckets with the fewest tokens added by
/// taking each for the longest of its bucket.
pub(super) fn buckets(classes: &[usize], class_lens: &[Tokens], num: usize) -> Vec<Bucket> {
    // Runs of equal length: position of the first, then dynamic programming over the runs.
    let mut starts: Vec<usize> = (0..classes.len())
        .filter(|&at| at == 0 || classes[at] != classes[at - 1])
        .collect();
    let num_runs = starts.len();
    starts.push(classes.len());
    // Each length alone may be as long as fits its type; padded for many sequences it need not.
    let len = |run: usize| u128::from(class_lens[classes[starts[run]]].0);
    let mut tokens_before = vec![0u128; num_runs + 1];
    for run in 0..num_runs {
        let count = (starts[run + 1] - starts[run]) as u128;
        tokens_before[run + 1] = tokens_before[run] + len(run) * count;
    }
    let padding = |from: usize, to: usize| {
        len(to - 1) * (starts[to] - starts[from]) as u128
            - (tokens_before[to] - tokens_before[from])
    };
    let num = num.min(num_runs);
    let mut least = vec![vec![u128::MAX; num_runs + 1]; num + 1];
    let mut cut_at = vec![vec![0; num_runs + 1]; num + 1];
    least[0][0] = 0;
    for used in 1..=num {
        for to in used..=num_runs {
            for from in used - 1..to {
                if least[used - 1][from] < u128::MAX {
                    let total = least[used - 1][from] + padding(from, to);
                    if total < least[used][to] {
                        least[used][to] = total;
                        cut_at[used][to] = from;
                    }
                }
            }
        }
    }
    let (mut buckets, mut to) = (Vec::with_capacity(num), num_runs);
    for used in (1..=num).rev() {
        let from = cut_at[used][to];
        buckets.push(Bucket {
            class: classes[starts[to - 1]],
            members: classes[starts[from]..starts[to]].to_vec(),
        });
        to = from;
    }
    buckets.reverse();
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_as_few_tokens_as_possible() {
        let class_lens = [10, 11, 50, 52].map(Tokens);
        let buckets = buckets(&[0, 0, 1, 2, 3], &class_lens, 2);
        let longest: Vec<_> = buckets.iter().map(|bucket| bucket.class).collect();
        assert_eq!(longest, [1, 3]);
        assert_eq!(buckets[0].members, [0, 0, 1]);
    }

    #[test]
    fn the_longest_lengths_there_are_do_not_overflow() {
        let class_lens = [1, u64::MAX / 2].map(Tokens);
        let buckets = buckets(&[0, 0, 0, 1], &class_lens, 1);
        assert_eq!(buckets.len(), 1);
        assert_eq!(buckets[0].class, 1);
    }
}
