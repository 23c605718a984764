//! Where commands print: results on one stream, everything about the run on another.
//!
//! A reader that closes its end early (`lengthwise plan … | head`) is no error; results that can't be written for any
//! other reason are one, when the command has ended. Of stderr nothing can be said anywhere: what it does not take is
//! dropped.

use std::io::{self, Write};

use console::Term;
use lengthwise_core::words::harmless;
use lengthwise_outputs::{Outputs, standard};

use crate::failure::Failure;

/// Where a command prints: results on one stream, everything about the run on another.
pub struct Output<'a> {
    results: Box<dyn Write + Send + 'a>,
    notes: Box<dyn Write + Send + 'a>,
    is_of_process: bool,
    /// Whether the reader has all that it wants.
    is_closed: bool,
    failed: Option<io::Error>,
}

impl Output<'static> {
    /// The process's own stdout and stderr.
    pub fn of_process() -> Self {
        Output {
            results: Box::new(standard::output()),
            notes: Box::new(standard::notes()),
            is_of_process: true,
            is_closed: false,
            failed: None,
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
            is_closed: false,
            failed: None,
        }
    }

    /// Prints a line of the result.
    pub(crate) fn result_line(&mut self, line: &str) {
        if !self.is_closed && self.failed.is_none() {
            let written = writeln!(self.results, "{line}");
            self.note_failure(written);
        }
    }

    fn note_failure(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            Err(error) => self.failed = Some(error),
        }
    }

    /// What keeps results from being printed, if something does.
    pub(crate) fn results_failed(&self) -> Option<String> {
        let error = self.failed.as_ref()?;
        Some(format!("stdout can't be written: {error}"))
    }

    /// Whether all results were printed, as far as somebody reads them.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        if !self.is_closed && self.failed.is_none() {
            let flushed = self.results.flush();
            self.note_failure(flushed);
        }
        let _ = self.notes.flush();
        match self.results_failed() {
            Some(problem) => Err(Failure::unsaved(problem)),
            None => Ok(()),
        }
    }

    /// Declares where results and notes go, after what a command reads.
    pub(crate) fn declare(&self, outputs: &mut Outputs) -> Result<(), Failure> {
        match self.is_of_process {
            true => Ok(outputs.prints()?),
            false => Ok(()),
        }
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
        let (is_error, text) = (usage.use_stderr(), usage.render());
        // In colours, where the terminal has them.
        let is_seen = match is_error {
            true => self.notes_are_on_terminal(),
            false => self.results_are_on_terminal(),
        };
        // What was typed is repeated, and may hold what a terminal would act on.
        let plain = text.to_string();
        let shown = harmless(&plain);
        let text = match is_seen && shown == plain {
            true => text.ansi().to_string(),
            false => shown,
        };
        if is_error {
            let _ = write!(self.notes, "{text}");
        } else {
            let written = write!(self.results, "{text}");
            self.note_failure(written);
        }
    }

    /// Whether somebody watches the results.
    pub(crate) fn results_are_on_terminal(&self) -> bool {
        self.is_of_process && standard::output_is_on_terminal()
    }

    /// Whether somebody watches what is said about the run.
    pub(crate) fn notes_are_on_terminal(&self) -> bool {
        self.is_of_process && standard::notes_are_on_terminal()
    }

    /// The columns of the terminal that shows the results.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = self
            .results_are_on_terminal()
            .then(|| Term::stdout().size_checked());
        size.flatten().map(|(_, columns)| usize::from(columns))
    }
}
