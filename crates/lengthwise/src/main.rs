//! The command line of Lengthwise.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the run started and failed |
//! | 2 | bad input: nothing was run |

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod output;
mod settings;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Usage errors end here, by clap, with exit code 2.
    let cli = cli::Cli::parse();
    for warning in cli::unknown_variables(std::env::vars_os()) {
        output::warning(&warning);
    }
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            failure.exit_code()
        }
    }
}
