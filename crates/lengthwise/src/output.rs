//! All printing: results go to stdout, everything about the run to stderr.
//!
//! A reader that closes its end early (`lengthwise plan … | head`) is no error: what can't be written is dropped.

use std::io::Write;

use crate::failure::Failure;

/// Prints a line of the result to stdout.
pub fn result_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line about the run to stderr.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints something that is probably not what the user meant, to stderr.
pub fn warning(message: &str) {
    note(&format!("warning: {message}"));
}

/// Prints the error a command ends with, and the hint that helps, to stderr.
pub fn failure(failure: &Failure) {
    note(&format!("error: {}", failure.message()));
    if let Some(hint) = failure.advice() {
        note(&format!("hint: {hint}"));
    }
}
