//! The plan of a step as bars over time and ranks.

use serde::Serialize;

use crate::metrics::{GroupMetrics, MicroBatchMetrics, StepMetrics};

/// Ranks beyond this number are not drawn one by one.
const MAX_RANKS: usize = 256;

/// Groups that are drawn one by one; beyond, neighbours of one degree are drawn together.
pub(super) const MAX_BLOCKS: usize = 2000;

/// The plan of one step; fields are the keys that the page's scripts read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Timeline {
    pub(super) name: String,
    pub(super) predicted_s: f64,
    /// What the planner made of it, which its bound is about.
    pub(super) planned_s: f64,
    pub(super) lower_bound_s: Option<f64>,
    /// The part of the prediction that comes beside the micro-batches.
    pub(super) step_overhead_s: f64,
    pub(super) measured_s: Option<f64>,
    pub(super) micro_batches: Vec<MicroBatchBars>,
    /// Measured compute, exchange and waiting of each rank.
    pub(super) ranks: Option<[Vec<f64>; 3]>,
}

/// The groups of a micro-batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MicroBatchBars {
    pub(super) predicted_s: f64,
    pub(super) groups: Vec<GroupBar>,
}

/// A group, or neighbours of one degree: then sequences and tokens are those of all, and other figures the largest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct GroupBar {
    /// How many groups.
    pub(super) groups: usize,
    /// First and last of each run of ranks.
    pub(super) ranks: Vec<(u32, u32)>,
    pub(super) degree: usize,
    pub(super) predicted_s: f64,
    pub(super) sequences: usize,
    pub(super) tokens: Option<u64>,
    pub(super) longest: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
}

impl Timeline {
    /// The plan of a step; `None` where it was not written.
    pub(super) fn of(step: &StepMetrics) -> Option<Self> {
        if step.plan.is_empty() {
            return None;
        }
        let times = &step.ranks;
        let num_ranks = times.compute_s.len();
        let ranks = (1..=MAX_RANKS)
            .contains(&num_ranks)
            .then(|| [&times.compute_s, &times.exchange_s, &times.wait_s].map(Clone::clone));
        let timeline = Timeline {
            name: format!("step {}", step.step),
            predicted_s: step.predicted_s,
            lower_bound_s: step.lower_bound_s,
            measured_s: Some(step.took_s()),
            planned_s: step.planned_s.unwrap_or(step.predicted_s),
            step_overhead_s: step.predicted_step_overhead_s,
            micro_batches: step.plan.iter().map(MicroBatchBars::of).collect(),
            ranks,
        };
        Some(timeline.condensed(MAX_BLOCKS))
    }

    /// The same with about so many blocks at most.
    pub(super) fn condensed(mut self, most: usize) -> Self {
        let num_groups: usize = self.micro_batches.iter().map(|one| one.groups.len()).sum();
        let together = num_groups.div_ceil(most.max(1));
        if together < 2 {
            return self;
        }
        for micro_batch in &mut self.micro_batches {
            let groups = &mut micro_batch.groups;
            groups.sort_by(|a, b| b.degree.cmp(&a.degree).then(a.ranks.cmp(&b.ranks)));
            let alike = groups.chunk_by(|a, b| a.degree == b.degree);
            let blocks = alike.flat_map(|alike| alike.chunks(together));
            *groups = blocks.filter_map(GroupBar::joined).collect();
        }
        self
    }
}

impl MicroBatchBars {
    fn of(micro_batch: &MicroBatchMetrics) -> Self {
        MicroBatchBars {
            predicted_s: micro_batch.predicted_s,
            groups: micro_batch.groups.iter().map(GroupBar::of).collect(),
        }
    }
}

impl GroupBar {
    fn of(group: &GroupMetrics) -> Self {
        let tokens = group
            .seq_lens
            .iter()
            .fold(0u64, |sum, &len| sum.saturating_add(len));
        GroupBar {
            groups: 1,
            ranks: runs(&group.ranks),
            degree: group.ranks.len(),
            predicted_s: group.predicted_s,
            sequences: group.seq_lens.len(),
            tokens: Some(tokens),
            longest: group.seq_lens.iter().copied().max(),
            memory_bytes: None,
        }
    }
}

impl GroupBar {
    /// Several as one.
    fn joined(groups: &[GroupBar]) -> Option<Self> {
        let first = groups.first()?;
        let of_all = |figure: fn(&GroupBar) -> Option<u64>| groups.iter().filter_map(figure);
        let times = groups.iter().map(|group| group.predicted_s);
        let mut ranks: Vec<(u32, u32)> = Vec::new();
        let mut all: Vec<(u32, u32)> = groups
            .iter()
            .flat_map(|group| group.ranks.clone())
            .collect();
        all.sort_unstable();
        for (from, to) in all {
            match ranks.last_mut() {
                Some(last) if last.1.checked_add(1) == Some(from) => last.1 = to,
                _ => ranks.push((from, to)),
            }
        }
        Some(GroupBar {
            groups: groups.len(),
            ranks,
            degree: first.degree,
            predicted_s: times.fold(0.0, f64::max),
            sequences: groups.iter().map(|group| group.sequences).sum(),
            tokens: (first.tokens.is_some())
                .then(|| of_all(|group| group.tokens).fold(0, u64::saturating_add)),
            longest: of_all(|group| group.longest).max(),
            memory_bytes: of_all(|group| group.memory_bytes).max(),
        })
    }
}

/// First and last of each run of consecutive ranks, in order.
pub(super) fn runs(ranks: &[u32]) -> Vec<(u32, u32)> {
    let mut ranks = ranks.to_vec();
    ranks.sort_unstable();
    ranks.dedup();
    let runs = ranks.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    runs.filter_map(|run| Some((*run.first()?, *run.last()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_degree_are_drawn_together_where_there_are_too_many() {
        let group = |first: u32, degree: u32, predicted_s| GroupMetrics {
            strategy: None,
            ranks: (first..first + degree).collect(),
            predicted_s,
            seq_lens: vec![10, 30],
        };
        let step = StepMetrics {
            plan: vec![MicroBatchMetrics {
                predicted_s: 2.0,
                groups: vec![
                    group(2, 1, 0.5),
                    group(0, 2, 1.0),
                    group(3, 1, 1.5),
                    group(4, 1, 0.75),
                ],
            }],
            ..StepMetrics::default()
        };
        let timeline = Timeline::of(&step).unwrap();
        assert_eq!(timeline.clone().condensed(4), timeline);
        let condensed = timeline.condensed(2);
        let groups = &condensed.micro_batches[0].groups;
        let facts: Vec<_> = groups
            .iter()
            .map(|group| {
                (
                    group.groups,
                    group.degree,
                    group.ranks.clone(),
                    group.predicted_s,
                )
            })
            .collect();
        assert_eq!(
            facts,
            [
                (1, 2, vec![(0, 1)], 1.0),
                (2, 1, vec![(2, 3)], 1.5),
                (1, 1, vec![(4, 4)], 0.75)
            ]
        );
        assert_eq!((groups[1].sequences, groups[1].tokens), (4, Some(80)));
    }

    #[test]
    fn ranks_become_runs() {
        assert_eq!(runs(&[3, 0, 1, 7, 4, 1]), [(0, 1), (3, 4), (7, 7)]);
        assert_eq!(runs(&[u32::MAX]), [(u32::MAX, u32::MAX)]);
        assert_eq!(runs(&[]), []);
    }
}
