//! How sequences and their tokens are spread over lengths, and at which degrees they ran.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metrics::StepMetrics;

/// Lengths from one power of two to below the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LengthBin {
    pub(super) from: u64,
    /// The largest length that belongs to it.
    pub(super) to: u64,
    pub(super) degrees: Vec<DegreeCount>,
}

/// What ran at one degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DegreeCount {
    pub(super) degree: usize,
    pub(super) sequences: u64,
    pub(super) tokens: u64,
}

impl LengthBin {
    /// Over all degrees.
    pub(super) fn sequences(&self) -> u64 {
        self.degrees.iter().map(|count| count.sequences).sum()
    }

    /// Over all degrees; saturates.
    pub(super) fn tokens(&self) -> u64 {
        let tokens = self.degrees.iter().map(|count| count.tokens);
        tokens.fold(0, u64::saturating_add)
    }
}

/// The lengths of all steps whose plans are known, from the shortest bin to the longest without a gap.
pub(super) fn length_bins(steps: &[StepMetrics]) -> Vec<LengthBin> {
    let mut counts: BTreeMap<(u32, usize), (u64, u64)> = BTreeMap::new();
    let groups = steps.iter().flat_map(|step| &step.plan);
    for group in groups.flat_map(|micro_batch| &micro_batch.groups) {
        for &len in &group.seq_lens {
            let bin = len.max(1).ilog2();
            let (sequences, tokens) = counts.entry((bin, group.ranks.len())).or_default();
            *sequences += 1;
            *tokens = tokens.saturating_add(len);
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (counts.keys().next(), counts.keys().next_back())
    else {
        return Vec::new();
    };
    let bin = |bin: u32| {
        let of_bin = counts.range((bin, 0)..=(bin, usize::MAX));
        let degrees = of_bin.map(|(&(_, degree), &(sequences, tokens))| DegreeCount {
            degree,
            sequences,
            tokens,
        });
        let from = 1u64 << bin;
        LengthBin {
            from,
            to: from + (from - 1),
            degrees: degrees.collect(),
        }
    };
    (first..=last).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{GroupMetrics, MicroBatchMetrics};

    fn step(groups: &[(u32, &[u64])]) -> StepMetrics {
        let groups = groups.iter().map(|&(degree, seq_lens)| GroupMetrics {
            ranks: (0..degree).collect(),
            seq_lens: seq_lens.to_vec(),
            ..GroupMetrics::default()
        });
        StepMetrics {
            plan: vec![MicroBatchMetrics {
                groups: groups.collect(),
                ..MicroBatchMetrics::default()
            }],
            ..StepMetrics::default()
        }
    }

    #[test]
    fn every_sequence_is_in_the_bin_of_its_length_under_its_degree() {
        let bins = length_bins(&[step(&[(1, &[4, 7, 8]), (2, &[7])]), step(&[(2, &[40])])]);
        let bounds: Vec<_> = bins.iter().map(|bin| (bin.from, bin.to)).collect();
        assert_eq!(bounds, [(4, 7), (8, 15), (16, 31), (32, 63)]);
        let counts: Vec<_> = bins
            .iter()
            .map(|bin| (bin.sequences(), bin.tokens()))
            .collect();
        assert_eq!(counts, [(3, 18), (1, 8), (0, 0), (1, 40)]);
        let degrees = |degree, sequences, tokens| DegreeCount {
            degree,
            sequences,
            tokens,
        };
        assert_eq!(bins[0].degrees, [degrees(1, 2, 11), degrees(2, 1, 7)]);
    }

    #[test]
    fn the_longest_and_the_shortest_lengths_have_bins() {
        let bins = length_bins(&[step(&[(1, &[0, u64::MAX])])]);
        assert_eq!((bins.len(), bins[0].from), (64, 1));
        assert_eq!(bins[63].to, u64::MAX);
        assert_eq!(length_bins(&[]), []);
    }
}
