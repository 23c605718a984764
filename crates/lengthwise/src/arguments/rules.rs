//! What plans have to keep beyond memory.

use std::num::NonZero;

use clap::Args;
use lengthwise_core::{Degree, PlanRules, TokenCap, Tokens};

use super::degree;

/// What plans have to keep beyond memory.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Rules that plans keep")]
pub struct RuleArgs {
    /// Every rank is in a group of every micro-batch.
    #[arg(long)]
    pub no_idle_ranks: bool,
    /// Every degree is a power of two, and every group is a run of ranks that begins at a multiple of its degree.
    #[arg(long)]
    pub aligned_powers_of_two: bool,
    /// No group has a smaller degree.
    #[arg(long, value_name = "D", default_value_t = Degree::ONE, value_parser = degree)]
    pub min_degree: Degree,
    /// How many tokens a rank may hold: the lengths of a group's sequences, each divided by its degree, add up to no more.
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub max_tokens_per_rank: Option<Tokens>,
    /// Tokens per rank take the place of the memory that the costs give; else both are kept.
    #[arg(long, requires = "max_tokens_per_rank")]
    pub tokens_replace_memory: bool,
    /// The number of micro-batches is a multiple of this.
    #[arg(long, value_name = "K", default_value_t = NonZero::<u32>::MIN, value_parser = above_zero)]
    pub micro_batches_multiple_of: NonZero<u32>,
    /// No group has more sequences.
    #[arg(long, value_name = "N", value_parser = above_zero)]
    pub max_sequences_per_group: Option<NonZero<u32>>,
}

impl RuleArgs {
    /// The rules.
    pub fn rules(self) -> PlanRules {
        PlanRules {
            no_idle_ranks: self.no_idle_ranks,
            aligned_powers_of_two: self.aligned_powers_of_two,
            min_degree: self.min_degree,
            token_cap: self.max_tokens_per_rank.map(|tokens_per_rank| TokenCap {
                tokens_per_rank,
                replaces_memory: self.tokens_replace_memory,
            }),
            micro_batches_multiple_of: self.micro_batches_multiple_of,
            max_sequences_per_group: self.max_sequences_per_group,
        }
    }
}

/// Reads a whole number above 0.
fn above_zero(text: &str) -> Result<NonZero<u32>, String> {
    let number = text.parse();
    number.map_err(|_| format!("it must be a whole number from 1 to {}", u32::MAX))
}

/// Reads a number of tokens above 0.
fn tokens(text: &str) -> Result<Tokens, String> {
    let tokens: Tokens = text.parse().map_err(|error| format!("{error}"))?;
    if tokens == Tokens(0) {
        return Err("it must be above 0".to_owned());
    }
    Ok(tokens)
}
