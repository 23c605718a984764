//! The plan of a step as bars over time and ranks.

use serde::Serialize;

use super::run_file::{Group, MicroBatch, Step};

/// Ranks beyond this number are not drawn one by one.
const MAX_RANKS: usize = 256;

/// The plan of one step; fields are the keys that the page's scripts read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Timeline {
    pub(super) name: String,
    pub(super) predicted_s: f64,
    pub(super) lower_bound_s: Option<f64>,
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

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct GroupBar {
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
    pub(super) fn of(step: &Step) -> Option<Self> {
        if step.plan.is_empty() {
            return None;
        }
        let times = &step.ranks;
        let num_ranks = times.compute_s.len();
        let ranks = (1..=MAX_RANKS)
            .contains(&num_ranks)
            .then(|| [&times.compute_s, &times.exchange_s, &times.wait_s].map(Clone::clone));
        Some(Timeline {
            name: format!("step {}", step.step),
            predicted_s: step.predicted_s,
            lower_bound_s: step.lower_bound_s,
            measured_s: Some(step.measured_s),
            micro_batches: step.plan.iter().map(MicroBatchBars::of).collect(),
            ranks,
        })
    }
}

impl MicroBatchBars {
    fn of(micro_batch: &MicroBatch) -> Self {
        MicroBatchBars {
            predicted_s: micro_batch.predicted_s,
            groups: micro_batch.groups.iter().map(GroupBar::of).collect(),
        }
    }
}

impl GroupBar {
    fn of(group: &Group) -> Self {
        let tokens = group
            .seq_lens
            .iter()
            .fold(0u64, |sum, &len| sum.saturating_add(len));
        GroupBar {
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
    fn ranks_become_runs() {
        assert_eq!(runs(&[3, 0, 1, 7, 4, 1]), [(0, 1), (3, 4), (7, 7)]);
        assert_eq!(runs(&[u32::MAX]), [(u32::MAX, u32::MAX)]);
        assert_eq!(runs(&[]), []);
    }
}
