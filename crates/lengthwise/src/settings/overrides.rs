//! Settings given for one run, on the command line or in the environment.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::place::{Place, broken};
use crate::failure::Failure;

/// A setting that has a flag, and an environment variable of the same name.
struct Flag {
    /// Without the dashes.
    name: &'static str,
    /// The environment variable: `LENGTHWISE_` and the name in capitals.
    variable: &'static str,
    /// What it sets, as `section.key`.
    key: &'static str,
    value_name: &'static str,
    help: &'static str,
}

const fn flag(
    name: &'static str,
    variable: &'static str,
    key: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        variable,
        key,
        value_name,
        help,
    }
}

const FLAGS: &[Flag] = &[
    flag(
        "steps",
        "LENGTHWISE_STEPS",
        "train.steps",
        "N",
        "Optimiser steps",
    ),
    flag(
        "ranks",
        "LENGTHWISE_RANKS",
        "cluster.ranks",
        "N",
        "Ranks, one device each",
    ),
    flag(
        "emulate",
        "LENGTHWISE_EMULATE",
        "cluster.emulate",
        "CLUSTER.toml",
        "Keep the pace of this cluster: its links, and devices at a part of a core",
    ),
    flag(
        "core-fraction",
        "LENGTHWISE_CORE_FRACTION",
        "cluster.core_fraction",
        "FRACTION",
        "The part of a core that an emulated device stands for; links slow down with it",
    ),
    flag(
        "device-memory-mib",
        "LENGTHWISE_DEVICE_MEMORY_MIB",
        "cluster.device_memory_mib",
        "MIB",
        "Memory of each device",
    ),
    flag(
        "planner",
        "LENGTHWISE_PLANNER",
        "plan.planner",
        "NAME",
        "Who plans: adaptive, static, static:D, …",
    ),
    flag(
        "degrees",
        "LENGTHWISE_DEGREES",
        "plan.degrees",
        "D,D,…",
        "Degrees the planner may use; all that the heads allow if not given",
    ),
    flag(
        "strategies",
        "LENGTHWISE_STRATEGIES",
        "plan.strategies",
        "NAME,…",
        "How groups may exchange: ulysses (the default), ring, hybrid, or all",
    ),
    flag(
        "activations",
        "LENGTHWISE_ACTIVATIONS",
        "train.activations",
        "NAME,…",
        "What groups may do with activations: keep, recompute (the default), host, or all that can be done",
    ),
    flag(
        "time-budget-ms",
        "LENGTHWISE_TIME_BUDGET_MS",
        "plan.time_budget_ms",
        "MS",
        "Time the planner may take for a batch; with it plans depend on the machine",
    ),
    flag(
        "profile",
        "LENGTHWISE_PROFILE",
        "plan.profile",
        "FILE.toml",
        "Plan by the costs that `lengthwise profile` has measured, instead of measuring briefly",
    ),
    flag(
        "refine",
        "LENGTHWISE_REFINE",
        "plan.refine",
        "BOOL",
        "Whether measured steps refine the costs; with it plans depend on how fast steps were",
    ),
    flag(
        "from",
        "LENGTHWISE_FROM",
        "model.from",
        "DIRECTORY",
        "Go on from the model there: config.json and weights in safetensors",
    ),
    flag(
        "tokenizer",
        "LENGTHWISE_TOKENIZER",
        "data.tokenizer",
        "PATH",
        "The tokenizer.json, or its directory, that text is encoded with; bytes for none",
    ),
    flag(
        "cache",
        "LENGTHWISE_CACHE",
        "data.cache",
        "DIRECTORY",
        "Keep the tokens of text there for later runs; ~/.cache/lengthwise if not given",
    ),
    flag(
        "context",
        "LENGTHWISE_CONTEXT",
        "model.context",
        "TOKENS",
        "The longest sequence",
    ),
    flag(
        "tokens",
        "LENGTHWISE_TOKENS",
        "batch.tokens",
        "TOKENS",
        "Tokens of a global batch",
    ),
    flag(
        "sequences",
        "LENGTHWISE_SEQUENCES",
        "batch.sequences",
        "N",
        "Sequences of a global batch, instead of tokens",
    ),
    flag(
        "text",
        "LENGTHWISE_TEXT",
        "data.text",
        "FIELD",
        "The field of JSONL, or column of Parquet, that holds documents",
    ),
    flag(
        "prompt",
        "LENGTHWISE_PROMPT",
        "data.prompt",
        "FIELD",
        "The field of prompts, of whose completions alone is learnt",
    ),
    flag(
        "completion",
        "LENGTHWISE_COMPLETION",
        "data.completion",
        "FIELD",
        "The field of completions",
    ),
    flag(
        "messages",
        "LENGTHWISE_MESSAGES",
        "data.messages",
        "FIELD",
        "The field of conversations, of which what the assistant says is learnt",
    ),
    flag(
        "chat-template",
        "LENGTHWISE_CHAT_TEMPLATE",
        "data.chat_template",
        "FILE.jinja",
        "The template of conversations, instead of the model's",
    ),
    flag(
        "corrupt",
        "LENGTHWISE_CORRUPT",
        "data.corrupt",
        "error|skip",
        "What becomes of rows that are no record",
    ),
    flag(
        "learning-rate",
        "LENGTHWISE_LEARNING_RATE",
        "train.learning_rate",
        "RATE",
        "Learning rate after the warm-up",
    ),
    flag(
        "seed",
        "LENGTHWISE_SEED",
        "train.seed",
        "SEED",
        "Seed of the initial parameters",
    ),
    flag(
        "metrics",
        "LENGTHWISE_METRICS",
        "train.metrics",
        "FILE.jsonl",
        "Add one JSON object a step to this file",
    ),
    flag(
        "export",
        "LENGTHWISE_EXPORT",
        "train.export",
        "DIRECTORY",
        "Write the trained model there, in the form of Hugging Face",
    ),
    flag(
        "trace",
        "LENGTHWISE_TRACE",
        "train.trace",
        "FILE.json",
        "Write what every rank does when in some steps, as Chrome-trace JSON",
    ),
    flag(
        "trace-steps",
        "LENGTHWISE_TRACE_STEPS",
        "train.trace_steps",
        "N,N,…",
        "The steps to trace; 2,3,4 if not given",
    ),
    flag(
        "checkpoints",
        "LENGTHWISE_CHECKPOINTS",
        "checkpoint.directory",
        "DIRECTORY",
        "Save the state of the run there now and then, and when a signal ends it",
    ),
    flag(
        "checkpoint-every",
        "LENGTHWISE_CHECKPOINT_EVERY",
        "checkpoint.every",
        "N",
        "Steps from one checkpoint to the next",
    ),
    flag(
        "resume",
        "LENGTHWISE_RESUME",
        "checkpoint.resume",
        "latest|DIR",
        "Go on from the newest checkpoint of the directory, or from another one",
    ),
];

/// How a training plans and what it writes: nothing that commands have a use for that measure or compare what its steps
/// cost.
const OF_TRAININGS: [&str; 14] = [
    "plan.profile",
    "plan.refine",
    "plan.planner",
    "plan.time_budget_ms",
    "plan.max_communicators",
    "train.metrics",
    "train.export",
    "train.trace",
    "train.trace_steps",
    "checkpoint.directory",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.async",
    "checkpoint.resume",
];

/// Where a value was written for one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideSource {
    /// As `--name value`.
    Flag(&'static str),
    /// As `--set section.key=value`.
    Set,
    /// As a variable of this name.
    Variable(&'static str),
}

/// One setting given for this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// As `section.key`.
    pub key: String,
    /// As it was written.
    pub text: String,
    /// Where it was written.
    pub source: OverrideSource,
}

/// All settings given for this run; the command line's come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(pub Vec<Override>);

impl Overrides {
    /// Leaves settings of trainings out of the help of a command that refuses them.
    pub fn hide_of_trainings(arg: Arg) -> Arg {
        let flag = FLAGS.iter().find(|flag| arg.get_id() == flag.name);
        match flag.is_some_and(|flag| OF_TRAININGS.contains(&flag.key)) {
            true => arg.hide(true),
            false => arg,
        }
    }

    /// Refuses settings of trainings that are given on the command line, which this command would ignore; those of a file and
    /// of the environment are there for trainings too.
    ///
    /// # Errors
    ///
    /// The first that is given so.
    pub fn refuse_of_trainings(&self, why: &str) -> Result<(), Failure> {
        let is_typed = |one: &&Override| !matches!(one.source, OverrideSource::Variable(_));
        let mut typed = self.0.iter().filter(is_typed);
        match typed.find(|one| OF_TRAININGS.contains(&one.key.as_str())) {
            Some(one) => {
                let place = Place::Run(one.source.clone());
                Err(broken(&one.key, &one.text, &place, why).hint("leave it out here"))
            }
            None => Ok(()),
        }
    }
}

impl Args for Overrides {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("Settings");
        let command = FLAGS.iter().fold(command, |command, flag| {
            command.arg(
                Arg::new(flag.name)
                    .long(flag.name)
                    .env(flag.variable)
                    .hide_env_values(true)
                    .value_name(flag.value_name)
                    .allow_hyphen_values(true)
                    .help(format!("{} ({})", flag.help, flag.key)),
            )
        });
        command.arg(
            Arg::new("set")
                .long("set")
                .value_name("SECTION.KEY=VALUE")
                .action(clap::ArgAction::Append)
                .value_parser(parse_assignment)
                .help("Any other setting of the file"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it like model.hidden=256".to_owned()),
    }
}

impl FromArgMatches for Overrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let set = matches
            .get_many::<(String, String)>("set")
            .into_iter()
            .flatten()
            .map(|(key, text)| Override {
                key: key.clone(),
                text: text.clone(),
                source: OverrideSource::Set,
            });
        let (variables, flags): (Vec<_>, Vec<_>) = FLAGS
            .iter()
            .filter_map(|flag| {
                let text = matches.get_one::<String>(flag.name)?;
                let source = match matches.value_source(flag.name) {
                    Some(ValueSource::EnvVariable) => OverrideSource::Variable(flag.variable),
                    _ => OverrideSource::Flag(flag.name),
                };
                Some(Override {
                    key: flag.key.to_owned(),
                    text: text.clone(),
                    source,
                })
            })
            .partition(|one| matches!(one.source, OverrideSource::Variable(_)));
        Ok(Overrides(set.chain(flags).chain(variables).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_their_flags() {
        for flag in FLAGS {
            let name = flag.name.replace('-', "_").to_ascii_uppercase();
            assert_eq!(flag.variable, format!("LENGTHWISE_{name}"));
        }
    }

    #[test]
    fn settings_of_trainings_are_refused_only_where_they_are_typed() {
        let given = |source| {
            Overrides(vec![Override {
                key: "train.metrics".to_owned(),
                text: "m.jsonl".to_owned(),
                source,
            }])
        };
        let refused = |source| given(source).refuse_of_trainings("no effect");
        let flag = refused(OverrideSource::Flag("metrics")).unwrap_err();
        assert_eq!(flag.message(), "--metrics m.jsonl: no effect");
        let set = refused(OverrideSource::Set).unwrap_err();
        assert_eq!(set.message(), "--set train.metrics=m.jsonl: no effect");
        assert_eq!(
            refused(OverrideSource::Variable("LENGTHWISE_METRICS")),
            Ok(())
        );
        let known = |key: &&str| super::super::train::KEYS.contains(key);
        assert!(OF_TRAININGS.iter().all(known));
    }
}
