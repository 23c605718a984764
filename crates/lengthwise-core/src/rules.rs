//! Rules that a plan has to keep where the system that runs it asks for more than memory.

use std::fmt;
use std::num::NonZero;

use crate::words::counted;
use crate::{Cluster, Degree, GlobalBatch, Group, Plan, PlanViolation, Rank, Tokens};

/// The rules of the system that runs a plan, beyond disjoint groups within memory; by default none.
///
/// ```
/// use lengthwise_core::{Degree, PlanRules, TokenCap, Tokens};
///
/// // What Megatron-Core's dynamic context parallelism asks for.
/// let rules = PlanRules {
///     no_idle_ranks: true,
///     aligned_powers_of_two: true,
///     token_cap: Some(TokenCap { tokens_per_rank: Tokens(6_407), replaces_memory: true }),
///     ..PlanRules::default()
/// };
/// assert_eq!(rules.token_cap.unwrap().of_group(Degree::new(4).unwrap()), Tokens(25_628));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanRules {
    /// Every rank is in a group of every micro-batch.
    pub no_idle_ranks: bool,
    /// Every degree is a power of two, and every group is a run of ranks that begins at a multiple of its degree.
    pub aligned_powers_of_two: bool,
    /// No group has a smaller degree.
    pub min_degree: Degree,
    /// How many tokens a rank may hold in one micro-batch.
    pub token_cap: Option<TokenCap>,
    /// The number of micro-batches is a multiple of this, as interleaved pipeline stages need it.
    pub micro_batches_multiple_of: NonZero<u32>,
    /// No group has more sequences.
    pub max_sequences_per_group: Option<NonZero<u32>>,
}

/// At most so many tokens a rank: the lengths of a group's sequences, each divided by its degree, add up to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenCap {
    /// The most tokens of a rank.
    pub tokens_per_rank: Tokens,
    /// Whether this takes the place of the budget in bytes; else both must be kept.
    pub replaces_memory: bool,
}

impl TokenCap {
    /// The most tokens that all sequences of a group of `degree` ranks may have together.
    pub fn of_group(self, degree: Degree) -> Tokens {
        Tokens(
            self.tokens_per_rank
                .0
                .saturating_mul(u64::from(degree.get())),
        )
    }
}

impl Default for PlanRules {
    fn default() -> Self {
        PlanRules {
            no_idle_ranks: false,
            aligned_powers_of_two: false,
            min_degree: Degree::ONE,
            token_cap: None,
            micro_batches_multiple_of: NonZero::<u32>::MIN,
            max_sequences_per_group: None,
        }
    }
}

/// A list to read: "no idle rank, only powers of two from 2 on, at most 6407 tokens a rank"; empty without rules.
impl fmt::Display for PlanRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.no_idle_ranks {
            words.push("no idle rank".to_owned());
        }
        if self.aligned_powers_of_two || self.min_degree > Degree::ONE {
            words.push(format!("only {}", self.allowed_degrees()));
        }
        if let Some(cap) = self.token_cap {
            let instead = if cap.replaces_memory {
                " whatever the memory"
            } else {
                ""
            };
            words.push(format!(
                "at most {} a rank{instead}",
                counted(cap.tokens_per_rank.0, "token")
            ));
        }
        if self.micro_batches_multiple_of.get() > 1 {
            words.push(format!(
                "micro-batches in multiples of {}",
                self.micro_batches_multiple_of
            ));
        }
        if let Some(most) = self.max_sequences_per_group {
            words.push(format!(
                "at most {} a group",
                counted(most.get(), "sequence")
            ));
        }
        f.write_str(&words.join(", "))
    }
}

impl PlanRules {
    /// Whether they ask for anything.
    pub fn is_empty(&self) -> bool {
        *self == PlanRules::default()
    }

    /// Whether groups may have this degree.
    pub fn allows_degree(&self, degree: Degree) -> bool {
        degree >= self.min_degree && (!self.aligned_powers_of_two || degree.get().is_power_of_two())
    }

    /// Whether the budget in bytes counts.
    pub fn limits_memory(&self) -> bool {
        self.token_cap.is_none_or(|cap| !cap.replaces_memory)
    }

    /// The most tokens that all sequences of a group may have together.
    pub fn most_tokens(&self, degree: Degree) -> Tokens {
        self.token_cap
            .map_or(Tokens(u64::MAX), |cap| cap.of_group(degree))
    }

    /// The most sequences that a group may have.
    pub fn most_sequences(&self) -> u32 {
        self.max_sequences_per_group
            .map_or(u32::MAX, NonZero::<u32>::get)
    }

    /// Checks a plan whose groups are disjoint and within the cluster.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, micro-batch by micro-batch; that of their number last.
    pub fn check(
        &self,
        plan: &Plan,
        batch: &GlobalBatch,
        cluster: &Cluster,
    ) -> Result<(), PlanViolation> {
        for (micro_batch, groups) in plan.micro_batches().iter().map(|m| &m.groups).enumerate() {
            for (index, group) in groups.iter().enumerate() {
                self.check_degree(group, micro_batch, index)?;
                self.check_contents(group, batch, micro_batch, index)?;
            }
            if self.no_idle_ranks {
                let mut is_busy = vec![false; cluster.num_devices() as usize];
                for rank in groups.iter().flat_map(|group| &group.ranks) {
                    is_busy[rank.index()] = true;
                }
                if let Some(idle) = is_busy.iter().position(|busy| !busy) {
                    let rank = Rank(idle as u32);
                    return Err(PlanViolation::IdleRank { micro_batch, rank });
                }
            }
        }
        let num_micro_batches = plan.micro_batches().len();
        let multiple_of = self.micro_batches_multiple_of.get();
        if !num_micro_batches.is_multiple_of(multiple_of as usize) {
            return Err(PlanViolation::NumMicroBatches {
                num_micro_batches,
                multiple_of,
            });
        }
        Ok(())
    }

    fn check_degree(
        &self,
        group: &Group,
        micro_batch: usize,
        index: usize,
    ) -> Result<(), PlanViolation> {
        let degree = group.degree();
        if !self.allows_degree(degree) {
            return Err(PlanViolation::DegreeNotAllowed {
                micro_batch,
                group: index,
                degree: degree.get(),
                allowed: self.allowed_degrees(),
            });
        }
        if self.aligned_powers_of_two {
            let mut ranks: Vec<u32> = group.ranks.iter().map(|rank| rank.0).collect();
            ranks.sort_unstable();
            let first = ranks[0];
            let is_run = ranks
                .iter()
                .zip(first..)
                .all(|(&rank, expected)| rank == expected);
            if !is_run || !first.is_multiple_of(degree.get()) {
                let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
                return Err(PlanViolation::NotAligned {
                    micro_batch,
                    group: index,
                    degree: degree.get(),
                    ranks: ranks.join(", "),
                });
            }
        }
        Ok(())
    }

    fn check_contents(
        &self,
        group: &Group,
        batch: &GlobalBatch,
        micro_batch: usize,
        index: usize,
    ) -> Result<(), PlanViolation> {
        if let Some(cap) = self.token_cap {
            let seq_lens = group.sequences.iter();
            let seq_lens = seq_lens.filter_map(|&sequence| batch.seq_len(sequence));
            let tokens = Tokens(seq_lens.map(|seq_len| seq_len.0).sum());
            let allowed = cap.of_group(group.degree());
            if tokens > allowed {
                return Err(PlanViolation::OverTokenCap {
                    micro_batch,
                    group: index,
                    degree: group.degree().get(),
                    tokens,
                    tokens_per_rank: cap.tokens_per_rank,
                    allowed,
                });
            }
        }
        if group.sequences.len() > self.most_sequences() as usize {
            return Err(PlanViolation::TooManySequences {
                micro_batch,
                group: index,
                num_sequences: group.sequences.len(),
                allowed: self.most_sequences(),
            });
        }
        Ok(())
    }

    /// The degrees that groups may have, as a phrase: "powers of two from 4 on".
    pub fn allowed_degrees(&self) -> String {
        let which = if self.aligned_powers_of_two {
            "powers of two"
        } else {
            "degrees"
        };
        match self.min_degree {
            Degree::ONE => which.to_owned(),
            least => format!("{which} from {least} on"),
        }
    }
}
