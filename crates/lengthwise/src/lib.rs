//! The command line of Lengthwise, as a library: what the binary does, and other front ends with it.
//!
//! | exit code | [`Exit`] | meaning |
//! | --- | --- | --- |
//! | 0 | `Done` | done |
//! | 1 | `RunFailed` | the run started and failed |
//! | 2 | `BadInput` | bad input: nothing was run |
//! | 3 | `NotSaved` | all was done, and some of its results are not where they were to be |
//! | 4 | `Stopped` | a signal asked a training to end: its state is saved, and it can be gone on with |
//!
//! ```text
//! cli         what can be typed
//! commands    one module for each subcommand; none uses another
//! arguments, settings, metrics, trace_file, saved, quantity, output, failure   what several commands need
//! encoding_bar   what is shown while text becomes ids
//! interruption   what is said and saved when a signal ends the process
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
mod encoding_bar;
mod exit;
mod failure;
mod interruption;
pub mod metrics;
mod output;
mod quantity;
mod saved;
mod settings;
mod trace_file;

use std::ffi::OsString;

pub use exit::Exit;
pub use interruption::watch_signals;
pub use output::Output;

/// What can be typed, for completions, manuals and tests.
pub fn command_line() -> clap::Command {
    cli::Cli::command_line()
}

/// Runs a command, of which the first word is the program's name. Settings are taken from the environment too.
pub fn run<Word>(command: impl IntoIterator<Item = Word>, output: &mut Output<'_>) -> Exit
where
    Word: Into<OsString> + Clone,
{
    let cli = match cli::Cli::read(command) {
        Ok(cli) => cli,
        Err(usage) => {
            output.usage(&usage);
            return match output.finish() {
                _ if usage.use_stderr() => Exit::BadInput,
                Ok(()) => Exit::Done,
                Err(failure) => {
                    output.failure(&failure);
                    failure.exit()
                }
            };
        }
    };
    for warning in cli::unknown_variables(std::env::vars_os()) {
        output.warning(&warning);
    }
    let ended = commands::run(cli.command, output);
    let printed = output.finish();
    if let (Err(_), Err(unprinted)) = (&ended, &printed) {
        output.warning(unprinted.message());
    }
    match ended.and(printed) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output.failure(&failure);
            failure.exit()
        }
    }
}
