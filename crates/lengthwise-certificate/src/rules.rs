//! The keys of rules as JSON: those that ask for something.

use std::num::NonZero;

use lengthwise_core::{Degree, PlanRules, TokenCap, Tokens};
use serde::{Deserialize, Serialize};

/// The rules that a plan keeps beyond memory; keys are the arguments of the command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "rules", deny_unknown_fields, default)]
pub struct RulesRecord {
    #[serde(skip_serializing_if = "is_false")]
    no_idle_ranks: bool,
    #[serde(skip_serializing_if = "is_false")]
    aligned_powers_of_two: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_degree: Option<NonZero<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_per_rank: Option<NonZero<u64>>,
    #[serde(skip_serializing_if = "is_false")]
    tokens_replace_memory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batches_multiple_of: Option<NonZero<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sequences_per_group: Option<NonZero<u32>>,
}

pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}

impl RulesRecord {
    /// `None` for no rules.
    pub fn of(rules: PlanRules) -> Option<Self> {
        let above_one = |number: NonZero<u32>| (number.get() > 1).then_some(number);
        let cap = rules.token_cap;
        (!rules.is_empty()).then(|| RulesRecord {
            no_idle_ranks: rules.no_idle_ranks,
            aligned_powers_of_two: rules.aligned_powers_of_two,
            min_degree: NonZero::new(rules.min_degree.get()).and_then(above_one),
            max_tokens_per_rank: cap.and_then(|cap| NonZero::new(cap.tokens_per_rank.0)),
            tokens_replace_memory: cap.is_some_and(|cap| cap.replaces_memory),
            micro_batches_multiple_of: above_one(rules.micro_batches_multiple_of),
            max_sequences_per_group: rules.max_sequences_per_group,
        })
    }

    /// The rules.
    pub fn rules(&self) -> PlanRules {
        let degree = |degree: NonZero<u32>| Degree::new(degree.get()).unwrap_or(Degree::ONE);
        PlanRules {
            no_idle_ranks: self.no_idle_ranks,
            aligned_powers_of_two: self.aligned_powers_of_two,
            min_degree: self.min_degree.map_or(Degree::ONE, degree),
            token_cap: self.max_tokens_per_rank.map(|tokens| TokenCap {
                tokens_per_rank: Tokens(tokens.get()),
                replaces_memory: self.tokens_replace_memory,
            }),
            micro_batches_multiple_of: self
                .micro_batches_multiple_of
                .unwrap_or(NonZero::<u32>::MIN),
            max_sequences_per_group: self.max_sequences_per_group,
        }
    }
}
