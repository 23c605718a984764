//! The decision for one global batch: micro-batches -> groups -> sequences.

use std::fmt;

use crate::{Degree, Rank, SequenceIndex, Strategy};

/// Ranks that share the sequences assigned to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// How they scatter each sequence.
    pub strategy: Strategy,
    /// The members, as many as the strategy's degree. Group ranks follow increasing ranks, in whatever order they are
    /// listed: a set of ranks is one group.
    pub ranks: Vec<Rank>,
    /// What they process, packed in this order.
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

/// The short form `[8] [4 2 1 1] [1x64]`: one bracket a micro-batch, degrees from large to small, more than
/// four equal ones counted.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mut degrees) in self.degrees().into_iter().enumerate() {
            degrees.sort_unstable_by(|a, b| b.cmp(a));
            let runs = degrees.chunk_by(|a, b| a == b).map(|run| match run.len() {
                1..=4 => run
                    .iter()
                    .map(Degree::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
                count => format!("{}x{count}", run[0]),
            });
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}[{}]", runs.collect::<Vec<_>>().join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activations;

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
