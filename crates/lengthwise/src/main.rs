//! The binary: [`lengthwise::run`] on the process's own arguments and streams.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use lengthwise::Output;

fn main() -> ExitCode {
    lengthwise::watch_signals();
    lengthwise::run(std::env::args_os(), &mut Output::of_process()).into()
}
