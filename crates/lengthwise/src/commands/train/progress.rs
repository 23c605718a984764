//! What is shown while a run goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lengthwise_train::StepRecord;

use super::step_table::StepTable;
use crate::output::Output;

/// After so many steps the names of the columns are repeated.
const STEPS_BETWEEN_HEADERS: u64 = 50;

/// A line a step on stdout; below them a bar, if both stdout and stderr are terminals.
pub struct Progress<'a, 'b> {
    output: &'a mut Output<'b>,
    table: StepTable,
    bar: ProgressBar,
    num_shown: u64,
    /// Whether it was said that steps can't be shown.
    is_warned: bool,
}

impl<'a, 'b> Progress<'a, 'b> {
    /// Begins to show a run of so many steps, some of which may be followed by a validation.
    pub fn begin(num_steps: u64, validates: bool, output: &'a mut Output<'b>) -> Self {
        let width = output.width();
        let bar = if output.results_are_on_terminal() && output.notes_are_on_terminal() {
            let template = match width {
                Some(..60) => "{wide_bar} {pos}/{len}",
                _ => "{bar:24} {pos}/{len}  {elapsed} gone, {eta} left  {wide_msg}",
            };
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(num_steps)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_message("measuring costs");
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        } else {
            ProgressBar::hidden()
        };
        Progress {
            output,
            table: StepTable::new(num_steps, validates, width),
            bar,
            num_shown: 0,
            is_warned: false,
        }
    }

    /// Shows a step.
    pub fn step(&mut self, record: &StepRecord) {
        let header =
            (self.num_shown.is_multiple_of(STEPS_BETWEEN_HEADERS)).then(|| self.table.header());
        self.num_shown += 1;
        let row = self.table.row(record);
        self.bar.suspend(|| {
            for line in header.iter().chain([&row]) {
                self.output.result_line(line);
            }
        });
        if let Some(problem) = self.output.results_failed().filter(|_| !self.is_warned) {
            self.is_warned = true;
            self.warning(&format!("{problem}; training goes on"));
        }
        self.bar.set_position(record.step);
        if let Some(loss) = record.loss {
            self.bar.set_message(format!("loss {loss:.4}"));
        }
    }

    /// Says something about the run.
    pub fn note(&mut self, line: &str) {
        self.bar.set_message("");
        self.bar.suspend(|| self.output.note(line));
    }

    /// Says what is probably not as it should be.
    pub fn warning(&mut self, message: &str) {
        self.bar.suspend(|| self.output.warning(message));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
