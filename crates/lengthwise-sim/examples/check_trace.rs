//! Says whether a trace keeps the rules of its format: `cargo run -p lengthwise-sim --example check_trace FILE`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use lengthwise_sim::check_chrome_trace;

fn main() -> ExitCode {
    let mut all_pass = true;
    for path in std::env::args().skip(1) {
        let checked = File::open(&path)
            .map_err(|error| error.to_string())
            .and_then(|file| {
                check_chrome_trace(BufReader::new(file)).map_err(|problem| problem.to_string())
            });
        match checked {
            Ok(summary) => println!(
                "{path}: {} events of {} threads in {} processes",
                summary.num_events.values().sum::<u64>(),
                summary.num_threads,
                summary.num_processes
            ),
            Err(problem) => {
                eprintln!("error: {path}: {problem}");
                all_pass = false;
            }
        }
    }
    if all_pass {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
