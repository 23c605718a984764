//! The rules that every plan keeps before anything runs it.

use thiserror::Error;

use crate::words::counted;
use crate::{
    Bytes, Cluster, Device, GlobalBatch, Group, MemoryModel, Plan, PlanRules, Rank, SequenceIndex,
    Strategy, StrategySpace, Tokens,
};

/// A rule that a plan breaks. Micro-batches and groups are named by their position.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum PlanViolation {
    /// Work for nobody.
    #[error("micro-batch {micro_batch} has no group; every micro-batch needs at least one")]
    NoGroups { micro_batch: usize },
    /// A group that would hold its ranks back for nothing.
    #[error(
        "group {group} of micro-batch {micro_batch} has no sequence; ranks without work must be left idle"
    )]
    NoSequences { micro_batch: usize, group: usize },
    /// The strategy is for another number of ranks.
    #[error(
        "group {group} of micro-batch {micro_batch} has {}; its strategy has degree {degree} and needs as many",
        counted(*num_ranks, "rank")
    )]
    WrongSize {
        micro_batch: usize,
        group: usize,
        num_ranks: usize,
        degree: u32,
    },
    /// The strategy is not open to this model.
    #[error(
        "group {group} of micro-batch {micro_batch} has the strategy {strategy}, which the strategy space lacks; it \
         has {allowed}"
    )]
    StrategyNotAllowed {
        micro_batch: usize,
        group: usize,
        strategy: Strategy,
        allowed: String,
    },
    /// A rank that does not exist.
    #[error(
        "group {group} of micro-batch {micro_batch} uses rank {rank}; the cluster has {}, \
         ranks 0 to {}", counted(*num_devices, "device"), num_devices - 1
    )]
    UnknownRank {
        micro_batch: usize,
        group: usize,
        rank: Rank,
        num_devices: u32,
    },
    /// A rank that would have to be in two places.
    #[error(
        "rank {rank} is in groups {first} and {second} of micro-batch {micro_batch}; groups must be disjoint"
    )]
    RankTwice {
        micro_batch: usize,
        rank: Rank,
        first: usize,
        second: usize,
    },
    /// A sequence that does not exist.
    #[error(
        "group {group} of micro-batch {micro_batch} holds sequence {sequence}; the batch has {}, \
         0 to {}", counted(*num_sequences, "sequence"), num_sequences - 1
    )]
    UnknownSequence {
        micro_batch: usize,
        group: usize,
        sequence: SequenceIndex,
        num_sequences: usize,
    },
    /// A sequence that would count twice in the gradient.
    #[error(
        "sequence {sequence} is assigned again in group {group} of micro-batch {micro_batch}; once is the rule"
    )]
    SequenceTwice {
        micro_batch: usize,
        group: usize,
        sequence: SequenceIndex,
    },
    /// A sequence that would be lost.
    #[error(
        "sequence {sequence} of {} is in no group; every sequence must be processed once",
        counted(*seq_len, "token")
    )]
    SequenceMissing {
        sequence: SequenceIndex,
        seq_len: u64,
    },
    /// More than a device holds.
    #[error(
        "group {group} of micro-batch {micro_batch} (degree {degree}) needs {predicted_memory} on each device for {}; \
         rank {rank} has {budget} for them",
        counted(*num_sequences, "sequence")
    )]
    OverBudget {
        micro_batch: usize,
        group: usize,
        degree: u32,
        num_sequences: usize,
        predicted_memory: Bytes,
        rank: Rank,
        budget: Bytes,
    },
    /// More than a device's share of its host's memory.
    #[error(
        "group {group} of micro-batch {micro_batch} ({strategy}) needs {predicted_memory} of host memory for each \
         device for {}; rank {rank} has {budget} of its host",
        counted(*num_sequences, "sequence")
    )]
    OverHostBudget {
        micro_batch: usize,
        group: usize,
        strategy: Strategy,
        num_sequences: usize,
        predicted_memory: Bytes,
        rank: Rank,
        budget: Bytes,
    },
    /// A rank that waits, against the rules.
    #[error(
        "rank {rank} is in no group of micro-batch {micro_batch}; the rules allow no idle rank"
    )]
    IdleRank { micro_batch: usize, rank: Rank },
    /// A degree that the rules forbid.
    #[error(
        "group {group} of micro-batch {micro_batch} has degree {degree}; the rules allow only {allowed}"
    )]
    DegreeNotAllowed {
        micro_batch: usize,
        group: usize,
        degree: u32,
        allowed: String,
    },
    /// A group that does not lie where the rules ask for.
    #[error(
        "group {group} of micro-batch {micro_batch} (degree {degree}) has ranks {ranks}; the rules allow only runs of \
         ranks that begin at a multiple of their degree"
    )]
    NotAligned {
        micro_batch: usize,
        group: usize,
        degree: u32,
        ranks: String,
    },
    /// More tokens than the rules allow.
    #[error(
        "group {group} of micro-batch {micro_batch} (degree {degree}) has {}; at {tokens_per_rank} a rank, \
         the rules allow {allowed}",
        counted(tokens.0, "token")
    )]
    OverTokenCap {
        micro_batch: usize,
        group: usize,
        degree: u32,
        tokens: Tokens,
        tokens_per_rank: Tokens,
        allowed: Tokens,
    },
    /// More sequences than the rules allow.
    #[error(
        "group {group} of micro-batch {micro_batch} has {}; the rules allow {allowed}",
        counted(*num_sequences, "sequence")
    )]
    TooManySequences {
        micro_batch: usize,
        group: usize,
        num_sequences: usize,
        allowed: u32,
    },
    /// A number of micro-batches that the rules forbid.
    #[error(
        "the plan has {}; the rules ask for a multiple of {multiple_of}",
        counted(*num_micro_batches, "micro-batch")
    )]
    NumMicroBatches {
        num_micro_batches: usize,
        multiple_of: u32,
    },
}

impl Plan {
    /// Checks that the plan processes every sequence of `batch` exactly once, in disjoint groups of ranks of
    /// `cluster`, with strategies of `space`, within the budget of every device and its host by `memory`, and keeps `rules`.
    ///
    /// # Errors
    ///
    /// The first violation found, micro-batch by micro-batch; a missing sequence after them, and what breaks `rules` last.
    pub fn validate(
        &self,
        batch: &GlobalBatch,
        cluster: &Cluster,
        space: &StrategySpace,
        memory: &(impl MemoryModel + ?Sized),
        rules: &PlanRules,
    ) -> Result<(), PlanViolation> {
        self.walk(
            batch,
            cluster,
            |at, group| at.check_strategy(group, space),
            |at, group| {
                if rules.limits_memory() {
                    at.check_memory(group, batch, cluster, memory)?;
                }
                Ok(())
            },
        )?;
        rules.check(self, batch, cluster)
    }

    /// Checks what a plan needs to be run at all, whatever a planner was allowed: every sequence of `batch` exactly
    /// once, in disjoint groups of ranks of `cluster`, each as large as its strategy says.
    ///
    /// # Errors
    ///
    /// As [`Plan::validate`].
    pub fn validate_assignment(
        &self,
        batch: &GlobalBatch,
        cluster: &Cluster,
    ) -> Result<(), PlanViolation> {
        self.walk(batch, cluster, |_, _| Ok(()), |_, _| Ok(()))
    }

    fn walk(
        &self,
        batch: &GlobalBatch,
        cluster: &Cluster,
        before: impl Fn(Position, &Group) -> Result<(), PlanViolation>,
        after: impl Fn(Position, &Group) -> Result<(), PlanViolation>,
    ) -> Result<(), PlanViolation> {
        let mut assigned = vec![false; batch.num_sequences()];
        let mut group_of_rank: Vec<Option<usize>> = vec![None; cluster.num_devices() as usize];
        for (micro_batch, groups) in self.micro_batches().iter().map(|m| &m.groups).enumerate() {
            if groups.is_empty() {
                return Err(PlanViolation::NoGroups { micro_batch });
            }
            group_of_rank.fill(None);
            for (index, group) in groups.iter().enumerate() {
                let at = Position {
                    micro_batch,
                    group: index,
                };
                before(at, group)?;
                at.check_size(group)?;
                at.check_ranks(group, &mut group_of_rank)?;
                at.check_sequences(group, &mut assigned)?;
                after(at, group)?;
            }
        }
        match batch
            .sequences()
            .zip(&assigned)
            .find(|(_, assigned)| !**assigned)
        {
            Some((sequence, _)) => Err(PlanViolation::SequenceMissing {
                sequence: sequence.index,
                seq_len: sequence.seq_len.0,
            }),
            None => Ok(()),
        }
    }
}

/// Where in a plan a check looks.
#[derive(Clone, Copy)]
struct Position {
    micro_batch: usize,
    group: usize,
}

impl Position {
    fn check_strategy(self, group: &Group, space: &StrategySpace) -> Result<(), PlanViolation> {
        let Position {
            micro_batch,
            group: index,
        } = self;
        if !space.contains(group.strategy) {
            let allowed: Vec<String> = space.strategies().iter().map(Strategy::to_string).collect();
            return Err(PlanViolation::StrategyNotAllowed {
                micro_batch,
                group: index,
                strategy: group.strategy,
                allowed: allowed.join(", "),
            });
        }
        Ok(())
    }

    fn check_size(self, group: &Group) -> Result<(), PlanViolation> {
        let degree = group.degree().get();
        if group.ranks.len() != degree as usize {
            let num_ranks = group.ranks.len();
            return Err(PlanViolation::WrongSize {
                micro_batch: self.micro_batch,
                group: self.group,
                num_ranks,
                degree,
            });
        }
        Ok(())
    }

    fn check_ranks(
        self,
        group: &Group,
        group_of_rank: &mut [Option<usize>],
    ) -> Result<(), PlanViolation> {
        let Position {
            micro_batch,
            group: index,
        } = self;
        let num_devices = group_of_rank.len() as u32;
        for &rank in &group.ranks {
            let Some(taken_by) = group_of_rank.get_mut(rank.index()) else {
                return Err(PlanViolation::UnknownRank {
                    micro_batch,
                    group: index,
                    rank,
                    num_devices,
                });
            };
            if let Some(first) = taken_by.replace(index) {
                return Err(PlanViolation::RankTwice {
                    micro_batch,
                    rank,
                    first,
                    second: index,
                });
            }
        }
        Ok(())
    }

    fn check_sequences(self, group: &Group, assigned: &mut [bool]) -> Result<(), PlanViolation> {
        let Position {
            micro_batch,
            group: index,
        } = self;
        if group.sequences.is_empty() {
            return Err(PlanViolation::NoSequences {
                micro_batch,
                group: index,
            });
        }
        let num_sequences = assigned.len();
        for &sequence in &group.sequences {
            match assigned.get_mut(sequence.index()) {
                None => {
                    return Err(PlanViolation::UnknownSequence {
                        micro_batch,
                        group: index,
                        sequence,
                        num_sequences,
                    });
                }
                Some(true) => {
                    return Err(PlanViolation::SequenceTwice {
                        micro_batch,
                        group: index,
                        sequence,
                    });
                }
                Some(assigned) => *assigned = true,
            }
        }
        Ok(())
    }

    fn check_memory(
        self,
        group: &Group,
        batch: &GlobalBatch,
        cluster: &Cluster,
        memory: &(impl MemoryModel + ?Sized),
    ) -> Result<(), PlanViolation> {
        let Position {
            micro_batch,
            group: index,
        } = self;
        let num_sequences = group.sequences.len();
        let least = |budget: &dyn Fn(&Device) -> Bytes| {
            let ranks = group.ranks.iter();
            let budgets = ranks.filter_map(|&rank| Some((rank, budget(cluster.device(rank)?))));
            budgets.min_by_key(|&(_, budget)| budget)
        };
        let predicted_memory = memory.group_memory(group, batch);
        if let Some((rank, budget)) = least(&|device| memory.budget(device))
            && predicted_memory > budget
        {
            return Err(PlanViolation::OverBudget {
                micro_batch,
                group: index,
                degree: group.degree().get(),
                num_sequences,
                predicted_memory,
                rank,
                budget,
            });
        }
        let predicted_memory = memory.group_host_memory(group, batch);
        if let Some((rank, budget)) = least(&|device| memory.host_budget(device))
            && predicted_memory > budget
        {
            return Err(PlanViolation::OverHostBudget {
                micro_batch,
                group: index,
                strategy: group.strategy,
                num_sequences,
                predicted_memory,
                rank,
                budget,
            });
        }
        Ok(())
    }
}
