//! What is shown while text becomes ids.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lengthwise_data::token_cache::EncodingProgress;

use crate::output::Output;
use crate::quantity::count;

/// The bar moves this often at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar on stderr, if that is a terminal; it appears with the first document that has to be encoded.
pub struct EncodingBar {
    bar: Option<ProgressBar>,
    is_seen: bool,
    begun: Instant,
    last: EncodingProgress,
    shown: Option<Instant>,
}

impl EncodingBar {
    /// A bar before the first document.
    pub fn new(output: &Output<'_>) -> Self {
        EncodingBar {
            bar: None,
            is_seen: output.notes_are_on_terminal(),
            begun: Instant::now(),
            last: EncodingProgress::default(),
            shown: None,
        }
    }

    /// Shows how far encoding has come.
    pub fn show(&mut self, so_far: EncodingProgress) {
        self.last = so_far;
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL);
        if !self.is_seen || !is_due {
            return;
        }
        self.shown = Some(Instant::now());
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{bar:24} {bytes} of {total_bytes}  {eta} left  {wide_msg}";
            let style = ProgressStyle::with_template(template);
            ProgressBar::new(so_far.num_all_bytes)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_position(so_far.num_bytes);
        bar.set_message(format!("{} tokens", so_far.num_ids));
    }

    /// Takes the bar away, and says what was encoded, if anything was.
    pub fn end(self) -> Option<String> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let EncodingProgress {
            num_documents,
            num_ids,
            num_bytes,
            ..
        } = self.last;
        let seconds = self.begun.elapsed().as_secs_f64();
        (num_documents > 0).then(|| {
            let rate = num_bytes as f64 / 1e6 / seconds.max(1e-9);
            // Of little, a rate says nothing.
            let rate = match num_bytes {
                0..1_000_000 => String::new(),
                _ => format!(", {rate:.1} MB/s"),
            };
            format!(
                "encoded    {} to {} in {seconds:.1} s{rate}",
                count(num_documents, "document"),
                count(num_ids, "token")
            )
        })
    }
}
