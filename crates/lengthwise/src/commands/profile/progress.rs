//! What is shown while costs are measured.

use indicatif::{ProgressBar, ProgressStyle};
use lengthwise_train::MeasuringProgress;

use crate::output::Output;

/// A bar on stderr, if that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins to show.
    pub fn begin(output: &Output<'_>) -> Self {
        if !output.notes_are_on_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{bar:24} {percent} %  {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(1000).with_style(style);
        Progress(bar.with_message("measuring"))
    }

    /// Shows how far measuring has come.
    pub fn show(&self, so_far: &MeasuringProgress) {
        let share = so_far.elapsed.get() / so_far.time_budget.get().max(f64::MIN_POSITIVE);
        self.0.set_position((1000.0 * share.min(1.0)) as u64);
        self.0.set_message(format!(
            "{} micro-batches measured, expected error {:.1} %",
            so_far.num_trials,
            100.0 * so_far.expected_error
        ));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
