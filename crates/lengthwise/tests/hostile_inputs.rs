//! Every command with values that nobody would mean: one clear error, never a panic, an abort or a wait without end.
//!
//! The walk takes options from the command line itself and what to try from a table by their names: an option that the
//! table lacks fails the test.

#![cfg(unix)]

mod hostile;

use hostile::bench::Bench;
use hostile::commands::{COMMANDS, base, base_that_opens};
use hostile::files::{cluster_files, plan_files, profile_files, run_files};
use hostile::values::{ASSIGNMENTS, Kind, OPTIONS};

/// The options and positional arguments of a command, by name.
fn options(words: &[&str]) -> Vec<String> {
    let mut command = lengthwise::command_line();
    for word in words {
        command = command.find_subcommand(word).unwrap().clone();
    }
    let names = command.get_arguments().map(|arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        long.unwrap_or_else(|| arg.get_id().to_string())
    });
    let built_in = |name: &String| ["--help", "--version"].contains(&name.as_str());
    names.filter(|name| !built_in(name)).collect()
}

#[test]
fn every_command_is_walked() {
    let command = lengthwise::command_line();
    for subcommand in command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
    {
        let below = subcommand
            .get_subcommands()
            .map(|one| one.get_name().to_owned());
        let below: Vec<String> = below.filter(|name| name != "help").collect();
        let name = subcommand.get_name();
        let is_walked = |words: &[&str]| COMMANDS.iter().any(|known| known.words == words);
        if below.is_empty() {
            assert!(is_walked(&[name]), "{name} is not in the table of commands");
        }
        for second in &below {
            assert!(
                is_walked(&[name, second]),
                "{name} {second} is not in the table of commands"
            );
        }
    }
}

#[test]
fn every_option_is_in_the_table() {
    for command in COMMANDS {
        for name in options(command.words) {
            assert!(
                OPTIONS.iter().any(|(known, _)| *known == name),
                "{:?} has {name}, which the table of options lacks",
                command.words
            );
        }
    }
}

#[test]
fn bad_values_of_every_option_are_one_clear_error() {
    let bench = Bench::new();
    let mut runs = Vec::new();
    for command in COMMANDS {
        if command.runs_alone {
            bench.succeeds(&base(command, ""));
        }
        for name in options(command.words) {
            let kind = OPTIONS.iter().find(|(known, _)| *known == name).unwrap().1;
            let names_file = matches!(kind, Kind::Input | Kind::Output | Kind::OutputDirectory);
            for value in kind.bad() {
                let run = match names_file {
                    // Settings are shown without opening the files that they name.
                    true => base_that_opens(command, &name),
                    false => base(command, &name),
                };
                runs.push((run.with(&name, &value), true));
            }
            for value in kind.odd().into_iter().filter(|_| command.runs_alone) {
                runs.push((base(command, &name).with(&name, &value), false));
            }
        }
    }
    bench.walk(runs);
}

#[test]
fn bad_values_of_every_setting_are_one_clear_error() {
    let bench = Bench::new();
    let train = COMMANDS.iter().find(|one| one.words == ["train"]).unwrap();
    let shown = bench.succeeds(&base(train, ""));
    let (mut section, mut keys) = (String::new(), Vec::new());
    for line in shown.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            keys.push(format!("{section}.{name}"));
        }
    }
    assert!(keys.len() > 25, "{shown}");
    let optional = [
        "batch.sequences",
        "cluster.core_fraction",
        "plan.degrees",
        "plan.time_budget_ms",
        "plan.max_communicators",
        "data.cache",
        "data.chat_template",
        "data.completion",
        "data.corrupt",
        "data.end_of_text",
        "data.messages",
        "data.prompt",
        "data.sources",
        "data.special_tokens",
        "data.text",
        "data.tokenizer",
        "data.tools",
        "data.validation",
        "data.validation_tokens",
        "train.decay_steps",
        "train.validate_every",
    ];
    keys.extend(optional.map(str::to_owned));
    keys.sort();
    keys.dedup();
    let mut runs = Vec::new();
    for key in keys {
        for value in Kind::Count.bad().into_iter().chain(Kind::Count.odd()) {
            let assignment = format!("{key}={value}");
            runs.push((base(train, "").with("--set", &assignment), false));
        }
    }
    for assignment in ASSIGNMENTS {
        runs.push((base(train, "").with("--set", assignment), true));
    }
    bench.walk(runs);
}

#[test]
fn files_with_bad_values_are_one_clear_error() {
    let bench = Bench::new();
    let mut runs = Vec::new();
    runs.extend(profile_files(&bench));
    runs.extend(cluster_files(&bench));
    runs.extend(plan_files(&bench));
    runs.extend(run_files(&bench));
    bench.walk(runs);
}
