//! Which options of a command exclude which: one table for all commands.
//!
//! What a command would ignore is refused: a row says that the option leaves no room for the others.

use clap::Command;

/// An option, and those that the command does not take beside it; all by the names of their fields.
pub struct Exclusion {
    /// The words of the command.
    pub command: &'static [&'static str],
    /// The option.
    pub option: &'static str,
    /// What it excludes.
    pub excludes: &'static [&'static str],
}

/// What a plan has to keep, which a plan that is made already does not change.
const RULES: [&str; 7] = [
    "no_idle_ranks",
    "aligned_powers_of_two",
    "min_degree",
    "max_tokens_per_rank",
    "tokens_replace_memory",
    "micro_batches_multiple_of",
    "max_sequences_per_group",
];

/// All that is excluded.
pub const EXCLUSIONS: &[Exclusion] = &[
    // Costs are those of a profile, or of a model on a described cluster.
    Exclusion {
        command: &["plan"],
        option: "profile",
        excludes: &["cluster", "model"],
    },
    Exclusion {
        command: &["verify"],
        option: "profile",
        excludes: &["cluster", "model"],
    },
    Exclusion {
        command: &["bench", "plan"],
        option: "profiles",
        excludes: &["cluster", "model"],
    },
    // Only a simulation takes devices from a profile and links from a cluster.
    Exclusion {
        command: &["simulate"],
        option: "profile",
        excludes: &["model"],
    },
    // A plan that is made already is not planned.
    Exclusion {
        command: &["simulate"],
        option: "plan",
        excludes: &[
            "lengths",
            "planner",
            "degrees",
            "strategies",
            "activations",
            "time_budget",
            "threads",
            "max_communicators",
        ],
    },
    Exclusion {
        command: &["simulate"],
        option: "plan",
        excludes: &RULES,
    },
    // What was published is compared as it was published.
    Exclusion {
        command: &["compare"],
        option: "paper",
        excludes: &[
            "profile",
            "cluster",
            "model",
            "lengths",
            "planners",
            "degrees",
            "context",
            "devices",
            "memory",
            "sequences",
            "multiple_of",
            "strategies",
            "activations",
            "tensor_parallel",
            "pipeline_parallel",
            "logits",
        ],
    },
    Exclusion {
        command: &["compare"],
        option: "paper",
        excludes: &RULES,
    },
];

/// The command line with all that is excluded.
pub fn exclusive(command: Command) -> Command {
    EXCLUSIONS.iter().fold(command, |command, exclusion| {
        with_exclusion(command, exclusion.command, exclusion)
    })
}

fn with_exclusion(command: Command, words: &[&'static str], exclusion: &Exclusion) -> Command {
    match words {
        [] => command.mut_arg(exclusion.option, |arg| {
            arg.conflicts_with_all(exclusion.excludes)
        }),
        [first, rest @ ..] => command.mut_subcommand(first, |subcommand| {
            with_exclusion(subcommand, rest, exclusion)
        }),
    }
}
