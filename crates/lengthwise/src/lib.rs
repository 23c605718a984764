//! The command line of Lengthwise, as a library: what the binary does, and other front ends with it.
//!
//! | exit code | [`Exit`] | meaning |
//! | --- | --- | --- |
//! | 0 | `Done` | done |
//! | 1 | `RunFailed` | the run started and failed |
//! | 2 | `BadInput` | bad input: nothing was run |
//!
//! ```text
//! cli         what can be typed
//! commands    one module for each subcommand; none uses another
//! arguments, settings, metrics, trace_file, quantity, output, failure   what several commands need
//! ```
//!
//! ```
//! use lengthwise::{Exit, Output};
//!
//! let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
//! let lengths = format!("{examples}/batches/wikipedia_384k_7b_0.json");
//! let profile = format!("{examples}/profiles/a100-gpt-7b-384k.toml");
//! let command = ["lengthwise", "plan", "--lengths", &lengths, "--profile", &profile, "--planner", "static"];
//!
//! let (mut results, mut notes) = (Vec::new(), Vec::new());
//! let exit = lengthwise::run(command, &mut Output::new(&mut results, &mut notes));
//! assert_eq!(exit, Exit::Done);
//! assert!(String::from_utf8(results)?.starts_with("static: a step takes "));
//! # Ok::<(), std::string::FromUtf8Error>(())
//! ```

#![forbid(unsafe_code)]

mod arguments;
mod cli;
mod commands;
mod exit;
mod failure;
pub mod metrics;
mod output;
mod quantity;
mod settings;
mod trace_file;

use std::ffi::OsString;

use clap::Parser;

pub use exit::Exit;
pub use output::Output;

/// What can be typed, for completions, manuals and tests.
pub fn command_line() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}

/// Runs a command, of which the first word is the program's name. Settings are taken from the environment too.
pub fn run<Word>(command: impl IntoIterator<Item = Word>, output: &mut Output<'_>) -> Exit
where
    Word: Into<OsString> + Clone,
{
    let cli = match cli::Cli::try_parse_from(command) {
        Ok(cli) => cli,
        Err(usage) => {
            output.usage(&usage);
            return if usage.use_stderr() {
                Exit::BadInput
            } else {
                Exit::Done
            };
        }
    };
    for warning in cli::unknown_variables(std::env::vars_os()) {
        output.warning(&warning);
    }
    match commands::run(cli.command, output) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output.failure(&failure);
            failure.exit()
        }
    }
}
