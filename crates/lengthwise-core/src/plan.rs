//! The decision for one global batch: micro-batches -> groups -> sequences.

use std::fmt;

use crate::{Activations, Degree, Rank, SequenceIndex, Strategy};

/// Ranks that share the sequences assigned to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// How they scatter each sequence.
    pub strategy: Strategy,
    /// The members, as many as the strategy's degree. Group ranks follow increasing ranks, in whatever order they are
    /// listed: a set of ranks is one group.
    pub ranks: Vec<Rank>,
    /// Their sequences, packed in this order.
    pub sequences: Vec<SequenceIndex>,
}

impl Group {
    /// How many ranks share each sequence.
    pub fn degree(&self) -> Degree {
        self.strategy.degree()
    }
}

/// The part of a global batch that is in flight at once. Ranks in no group idle meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MicroBatch {
    /// Disjoint groups, each with at least one sequence.
    pub groups: Vec<Group>,
}

impl MicroBatch {
    /// The group `rank` works in, and its group rank there; `None` where it idles.
    pub fn group_of(&self, rank: Rank) -> Option<(&Group, Rank)> {
        self.groups.iter().find_map(|group| {
            if !group.ranks.contains(&rank) {
                return None;
            }
            let before = group.ranks.iter().filter(|&&member| member < rank);
            Some((group, Rank(before.count() as u32)))
        })
    }
}

/// How one global batch is trained on, one micro-batch after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    micro_batches: Vec<MicroBatch>,
}

impl Plan {
    /// A plan as drawn up; [`Plan::validate`] says whether it keeps the rules.
    pub fn new(micro_batches: Vec<MicroBatch>) -> Self {
        Plan { micro_batches }
    }

    /// The micro-batches in the order they run.
    pub fn micro_batches(&self) -> &[MicroBatch] {
        &self.micro_batches
    }

    /// The degrees of every micro-batch's groups, in the plan's order.
    pub fn degrees(&self) -> Vec<Vec<Degree>> {
        self.micro_batches
            .iter()
            .map(|micro_batch| micro_batch.groups.iter().map(Group::degree).collect())
            .collect()
    }
}

/// The short form `[8] [4 2 1 1] [1x64]`: one bracket a micro-batch, degrees from large to small, more than four equal ones
/// counted. Rings are `8r`, rings of places `4x2`, and counted ones `(4x2)x6`. Where groups treat activations differently, those
/// that do not recompute them say so: `[8 host, 4, 4]`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = || self.micro_batches.iter().flat_map(|one| &one.groups);
        let first = groups().next().map(|group| group.strategy.activations());
        let is_first = |group: &Group| Some(group.strategy.activations()) == first;
        let usual = match first {
            Some(first) if groups().all(is_first) => first,
            _ => Activations::Recompute,
        };
        for (index, micro_batch) in self.micro_batches.iter().enumerate() {
            let mut strategies: Vec<Strategy> =
                micro_batch.groups.iter().map(|of| of.strategy).collect();
            strategies.sort_unstable_by(|a, b| b.cmp(a));
            let runs = strategies.chunk_by(|a, b| a == b).flat_map(|run| {
                let name = run[0].short(usual);
                match run.len() {
                    1..=4 => vec![name; run.len()],
                    count if name.contains(['x', ' ']) => vec![format!("({name})x{count}")],
                    count => vec![format!("{name}x{count}")],
                }
            });
            let runs: Vec<String> = runs.collect();
            let has_words = runs.iter().any(|run| run.contains(' '));
            let between = if has_words { ", " } else { " " };
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}[{}]", runs.join(between))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro_batch(degrees: &[u32]) -> MicroBatch {
        let mut next = 0;
        let groups = degrees
            .iter()
            .map(|&degree| {
                let ranks = (next..next + degree).map(Rank).collect();
                next += degree;
                let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Keep);
                Group {
                    strategy,
                    ranks,
                    sequences: vec![SequenceIndex(0)],
                }
            })
            .collect();
        MicroBatch { groups }
    }

    #[test]
    fn the_short_form_counts_more_than_four_repeats() {
        let plan = Plan::new(vec![
            micro_batch(&[8]),
            micro_batch(&[1, 4, 2, 1]),
            micro_batch(&[1; 6]),
        ]);
        assert_eq!(plan.to_string(), "[8] [4 2 1 1] [1x6]");
    }

    #[test]
    fn the_short_form_tells_rings_and_what_is_done_with_activations() {
        let with = |parts: &[(u32, u32, Activations)]| {
            let groups = parts.iter().map(|&(ulysses, ring, activations)| {
                let degree = |degree| Degree::new(degree).unwrap();
                Group {
                    strategy: Strategy::new(degree(ulysses), degree(ring), activations).unwrap(),
                    ranks: Vec::new(),
                    sequences: Vec::new(),
                }
            });
            Plan::new(vec![MicroBatch {
                groups: groups.collect(),
            }])
            .to_string()
        };
        let (keep, recompute, host) =
            (Activations::Keep, Activations::Recompute, Activations::Host);
        assert_eq!(
            with(&[(1, 8, keep), (4, 2, keep), (1, 1, keep)]),
            "[8r 4x2 1]"
        );
        assert_eq!(with(&[(2, 2, keep); 6]), "[(2x2)x6]");
        assert_eq!(
            with(&[(4, 1, recompute), (8, 1, host), (2, 1, keep)]),
            "[8 host, 4, 2 keep]"
        );
    }

    #[test]
    fn a_rank_finds_its_group_or_idles() {
        let micro_batch = micro_batch(&[2, 1]);
        let (group, group_rank) = micro_batch.group_of(Rank(1)).unwrap();
        assert_eq!((group.degree().get(), group_rank), (2, Rank(1)));
        assert!(micro_batch.group_of(Rank(3)).is_none());
    }

    #[test]
    fn group_ranks_do_not_depend_on_the_order_of_a_list() {
        let mut micro_batch = micro_batch(&[3]);
        micro_batch.groups[0].ranks = [2, 0, 1].map(Rank).to_vec();
        for rank in [0, 1, 2].map(Rank) {
            assert_eq!(micro_batch.group_of(rank).unwrap().1, rank);
        }
    }
}
