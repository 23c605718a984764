//! The most tokens of a rank where no rule says so.

use lengthwise_core::{Degree, Tokens};

use crate::Problem;
use crate::longest_sequence::longest_sequence;

/// The most tokens that a rank may hold: by the rules, or else by the memory of every device at every degree.
pub(super) fn tokens_per_rank(problem: Problem<'_>) -> Tokens {
    if let Some(cap) = problem.rules.token_cap {
        return cap.tokens_per_rank;
    }
    let num_ranks = problem.cluster.num_devices();
    let degrees = problem.space.degrees();
    let degrees = degrees.filter(|&d| d.get() <= num_ranks && problem.rules.allows_degree(d));
    let least = degrees.map(|degree| tokens_at(problem, degree)).min();
    least.unwrap_or(Tokens(0))
}

/// The most tokens of a rank that a group of this degree has memory for, with the strategy that needs least.
fn tokens_at(problem: Problem<'_>, degree: Degree) -> Tokens {
    let strategies = problem.space.strategies().iter();
    let strategies = strategies.filter(|strategy| strategy.degree() == degree);
    let most =
        strategies.map(|&strategy| longest_sequence(problem.cost, strategy, problem.cluster));
    Tokens(most.max().unwrap_or(0) / u64::from(degree.get()))
}
