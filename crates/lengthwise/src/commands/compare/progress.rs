//! How far a comparison is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// A bar over all batches, where stderr is a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show a comparison of so many batches.
    pub(super) fn begin(num_batches: u64, output: &Output<'_>) -> Self {
        if !output.notes_are_on_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let template = "planning {bar:24} {pos}/{len}  {elapsed} gone, {eta} left  {wide_msg}";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(num_batches)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    /// A batch of this setting is planned.
    pub(super) fn one_done(&self, setting: &str) {
        self.0.set_message(setting.to_owned());
        self.0.inc(1);
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
