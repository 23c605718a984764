//! What can be typed.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lengthwise_inputs::suggestion;

use crate::arguments::exclusive;
use crate::commands::bench::BenchArgs;
use crate::commands::checkpoint::CheckpointArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::profile::ProfileArgs;
use crate::commands::report::ReportArgs;
use crate::commands::simulate::SimulateArgs;
use crate::commands::train::TrainArgs;
use crate::commands::verify::VerifyArgs;

/// Trains large language models on long, wildly uneven sequences, with plans that adapt to every batch.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// All that can be typed.
    pub fn command_line() -> clap::Command {
        exclusive(<Cli as CommandFactory>::command())
    }

    /// What was typed, beginning with the program's name.
    ///
    /// # Errors
    ///
    /// What makes no command, or a command that asks for help.
    pub fn read<Word>(words: impl IntoIterator<Item = Word>) -> Result<Self, clap::Error>
    where
        Word: Into<OsString> + Clone,
    {
        let mut command = Cli::command_line();
        let mut matches = command.try_get_matches_from_mut(words)?;
        Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// The subcommands; each has its own module in `commands`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compares planners on recorded batches.
    Bench(BenchArgs),
    /// Shows what a checkpoint of a training holds, and checks it.
    Checkpoint(CheckpointArgs),
    /// Compares planners on clusters, models, contexts and lengths.
    Compare(CompareArgs),
    /// Plans one step for a list of sequence lengths.
    Plan(PlanArgs),
    /// Measures what a training costs on this machine, for plans that go by it.
    Profile(ProfileArgs),
    /// Shows runs beside each other on one page of HTML.
    Report(ReportArgs),
    /// Simulates a step event by event, on the cluster of a profile or on a described one.
    Simulate(Box<SimulateArgs>),
    /// Trains a decoder as a settings file describes.
    Train(TrainArgs),
    /// Checks the certificate of a plan: that no plan takes less than its bound.
    Verify(Box<VerifyArgs>),
}

/// Warnings of variables that look like settings and are none.
pub fn unknown_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let command = Cli::command_line();
    let known: Vec<&str> = command
        .get_subcommands()
        .flat_map(|subcommand| subcommand.get_arguments())
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    variables
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("LENGTHWISE_") && !known.contains(&name.as_str()))
        .map(|name| {
            let suggestion = suggestion(&name, &known, "known are");
            format!("there is no setting {name}, it has no effect; {suggestion}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use lengthwise_cost::{DeviceKind, ModelKind};

    use super::*;
    use crate::arguments::EXCLUSIONS;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command_line().debug_assert();
    }

    #[test]
    fn what_costs_follow_from_is_a_list_only_where_several_are_compared() {
        let is_read = |command: &str, arguments: &str| {
            let words = format!("lengthwise {command} {arguments}");
            Cli::read(words.split(' ')).is_ok()
        };
        let lists = [
            "--profile a --devices 2,4",
            "--profile a --context 4k,8k",
            "--profile a --profile b",
            "--cluster a --model b --model c",
        ];
        for arguments in lists {
            assert!(is_read("compare", arguments), "compare {arguments}");
            for command in ["plan --lengths l", "simulate --lengths l"] {
                assert!(!is_read(command, arguments), "{command} {arguments}");
            }
        }
        for command in ["compare", "plan --lengths l", "simulate --lengths l"] {
            assert!(
                is_read(command, "--cluster a --model b --degrees 1,2"),
                "{command}"
            );
        }
        // Only a simulation takes devices from one file and links from another.
        assert!(is_read("simulate --lengths l", "--profile a --cluster b"));
        assert!(!is_read("plan --lengths l", "--profile a --cluster b"));
    }

    /// What the command is with an option that takes a value of its kind.
    fn typed(command: &clap::Command, name: &str) -> Vec<String> {
        let argument = command.get_arguments().find(|one| one.get_id() == name);
        let argument = argument.unwrap_or_else(|| panic!("{} has no {name}", command.get_name()));
        let value = match name {
            "planner" | "planners" => "static",
            "time_budget" => "1s",
            "strategies" => "ring",
            "activations" => "keep",
            "logits" => "chunked",
            _ => "1",
        };
        let takes_value = argument.get_action().takes_values();
        match argument.get_long() {
            Some(long) if takes_value => vec![format!("--{long}={value}")],
            Some(long) => vec![format!("--{long}")],
            None => vec![value.to_owned()],
        }
    }

    #[test]
    fn every_excluded_combination_is_refused_by_the_names_of_both() {
        for exclusion in EXCLUSIONS {
            let mut command = &Cli::command_line();
            for word in exclusion.command {
                command = command.find_subcommand(word).unwrap();
            }
            for excluded in exclusion.excludes {
                let mut words = vec!["lengthwise".to_owned()];
                words.extend(exclusion.command.iter().map(|&word| word.to_owned()));
                words.extend(typed(command, exclusion.option));
                words.extend(typed(command, excluded));
                let error = Cli::read(&words).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::ArgumentConflict,
                    "{words:?}: {error}"
                );
                let message = error.to_string();
                let is_named = |typed: &String| {
                    typed.strip_prefix("--").is_none_or(|long| {
                        let name = long.split('=').next().unwrap_or(long);
                        message.contains(&format!("--{name}"))
                    })
                };
                assert!(words.iter().skip(2).all(is_named), "{words:?}: {message}");
            }
        }
    }

    #[test]
    fn help_lists_what_is_known_by_name() {
        for command in ["compare", "plan", "simulate"] {
            let mut cli = Cli::command_line();
            let command = cli.find_subcommand_mut(command).unwrap();
            let help = command.render_help().to_string();
            let models = ModelKind::ALL.map(ModelKind::name);
            let devices = DeviceKind::ALL.map(DeviceKind::name);
            for name in models.iter().chain(&devices) {
                assert!(help.contains(name), "{name} in {help}");
            }
        }
    }

    #[test]
    fn misspelt_variables_are_told() {
        let variables = ["LENGTHWISE_STPES", "LENGTHWISE_STEPS", "PATH"];
        let variables = variables.map(|name| (OsString::from(name), OsString::from("9")));
        assert_eq!(
            unknown_variables(variables.into_iter()),
            [
                "there is no setting LENGTHWISE_STPES, it has no effect; did you mean LENGTHWISE_STEPS?"
            ]
        );
    }
}
