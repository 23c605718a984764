//! The cuts of a batch into micro-batches of about as many tokens, as the published algorithm makes them.

use std::ops::Range;

use lengthwise_core::Tokens;

/// Cuts sequences, sorted by length, into `num` contiguous parts whose largest has as few tokens as possible.
///
/// Dynamic programming, as published: the best cut of the first `n` sequences into `k` parts ends with some last part
/// behind a best cut of what is before it into `k - 1`. What is before grows with its end while the last part
/// shrinks, so the best end moves only forward with `n`, and a row takes linear time.
///
/// There are as many parts as sequences where `num` is more.
pub(crate) fn balanced_cuts(lens: &[Tokens], num: usize) -> Vec<Range<usize>> {
    let num = num.clamp(1, lens.len().max(1));
    let mut tokens_before = vec![0u64; lens.len() + 1];
    for (at, len) in lens.iter().enumerate() {
        tokens_before[at + 1] = tokens_before[at] + len.0;
    }
    // The largest part of the best cut of the first n, from n = parts so far on.
    let mut largest = tokens_before.clone();
    let mut last_starts: Vec<Vec<u32>> = Vec::with_capacity(num);
    for parts in 2..=num {
        let mut next = vec![u64::MAX; lens.len() + 1];
        let mut starts = vec![0u32; lens.len() + 1];
        let mut start = parts - 1;
        for end in parts..=lens.len() {
            let with = |start: usize| largest[start].max(tokens_before[end] - tokens_before[start]);
            while start + 1 < end && with(start + 1) <= with(start) {
                start += 1;
            }
            next[end] = with(start);
            starts[end] = start as u32;
        }
        largest = next;
        last_starts.push(starts);
    }
    let mut end = lens.len();
    let mut parts: Vec<Range<usize>> = Vec::with_capacity(num);
    for starts in last_starts.iter().rev() {
        let start = starts[end] as usize;
        parts.push(start..end);
        end = start;
    }
    parts.push(0..end);
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn largest(lens: &[Tokens], parts: &[Range<usize>]) -> u64 {
        let tokens = parts
            .iter()
            .map(|part| lens[part.clone()].iter().map(|len| len.0).sum());
        tokens.max().unwrap_or(0)
    }

    /// By trying every cut.
    fn least_largest(lens: &[Tokens], num: usize) -> u64 {
        let all: u64 = lens.iter().map(|len| len.0).sum();
        if num == 1 {
            return all;
        }
        let last_part = (num - 1..lens.len()).map(|start| {
            let tokens: u64 = lens[start..].iter().map(|len| len.0).sum();
            tokens.max(least_largest(&lens[..start], num - 1))
        });
        last_part.min().unwrap_or(all)
    }

    #[test]
    fn cuts_balance_tokens() {
        let lens = [1, 1, 2, 4, 8].map(Tokens);
        assert_eq!(balanced_cuts(&lens, 2), [0..4, 4..5]);
        assert_eq!(balanced_cuts(&lens, 1).first(), Some(&(0..5)));
        assert_eq!(balanced_cuts(&lens, 9).len(), 5);
    }

    proptest! {
        #[test]
        fn no_cut_into_as_many_parts_has_a_smaller_largest(
            mut lens in proptest::collection::vec(1u64..50, 1..9),
            num in 1usize..6,
        ) {
            lens.sort_unstable();
            let lens: Vec<Tokens> = lens.into_iter().map(Tokens).collect();
            let parts = balanced_cuts(&lens, num);
            let num = num.min(lens.len());
            prop_assert_eq!(parts.len(), num);
            prop_assert!(parts.iter().all(|part| !part.is_empty()));
            let joined: Vec<usize> = parts.iter().cloned().flatten().collect();
            prop_assert_eq!(joined, (0..lens.len()).collect::<Vec<_>>());
            prop_assert_eq!(largest(&lens, &parts), least_largest(&lens, num));
        }
    }
}
