//! Where commands print: results on one stream, everything about the run on another.
//!
//! A reader that closes its end early (`lengthwise plan … | head`) is no error: what can't be written is dropped.

use std::io::{self, IsTerminal, Write};

use console::Term;
use lengthwise_core::words::harmless;

use crate::failure::Failure;

/// Where a command prints: results on one stream, everything about the run on another.
pub struct Output<'a> {
    results: Box<dyn Write + Send + 'a>,
    notes: Box<dyn Write + Send + 'a>,
    is_of_process: bool,
}

impl Output<'static> {
    /// The process's own stdout and stderr.
    pub fn of_process() -> Self {
        Output {
            results: Box::new(io::stdout()),
            notes: Box::new(io::stderr()),
            is_of_process: true,
        }
    }
}

impl<'a> Output<'a> {
    /// Streams that are no terminals.
    pub fn new(results: impl Write + Send + 'a, notes: impl Write + Send + 'a) -> Self {
        Output {
            results: Box::new(results),
            notes: Box::new(notes),
            is_of_process: false,
        }
    }

    /// Prints a line of the result.
    pub(crate) fn result_line(&mut self, line: &str) {
        let _ = writeln!(self.results, "{line}");
    }

    /// Prints a line about the run.
    pub(crate) fn note(&mut self, line: &str) {
        let _ = writeln!(self.notes, "{line}");
    }

    /// Prints something that is probably not what the user meant.
    pub(crate) fn warning(&mut self, message: &str) {
        self.note(&format!("warning: {message}"));
    }

    /// Prints the error a command ends with, and the hint that helps.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.note(&format!("error: {}", failure.message()));
        if let Some(hint) = failure.advice() {
            self.note(&format!("hint: {hint}"));
        }
    }

    /// Prints why arguments make no command: what is wrong with them, or the help that they ask for.
    pub(crate) fn usage(&mut self, usage: &clap::Error) {
        // What was typed is repeated, and may hold what a terminal would act on.
        let plain = usage.render().to_string();
        let shown = harmless(&plain);
        if shown != plain {
            let _ = match usage.use_stderr() {
                true => write!(self.notes, "{shown}"),
                false => write!(self.results, "{shown}"),
            };
            return;
        }
        // In colours, where the terminal has them.
        let _ = match (self.is_of_process, usage.use_stderr()) {
            (true, _) => usage.print(),
            (false, true) => write!(self.notes, "{}", usage.render()),
            (false, false) => write!(self.results, "{}", usage.render()),
        };
    }

    /// Whether somebody watches the results.
    pub(crate) fn results_are_on_terminal(&self) -> bool {
        self.is_of_process && io::stdout().is_terminal()
    }

    /// Whether somebody watches what is said about the run.
    pub(crate) fn notes_are_on_terminal(&self) -> bool {
        self.is_of_process && io::stderr().is_terminal()
    }

    /// The columns of the terminal that shows the results.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = self
            .results_are_on_terminal()
            .then(|| Term::stdout().size_checked());
        size.flatten().map(|(_, columns)| usize::from(columns))
    }
}
