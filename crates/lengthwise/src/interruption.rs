//! Signals that end the process: what is finished first, and what is said.
//!
//! The process then ends by the signal, as if nobody had listened, unless a command saves its state and ends by itself. A
//! second signal ends it at once.

use std::sync::{Mutex, PoisonError};

/// What a command finishes before its process ends; returns what is saved, a line each.
type Ending = Box<dyn FnMut() -> Vec<String> + Send>;

static ENDING: Mutex<Option<Ending>> = Mutex::new(None);

/// Asks a command to end by itself, with the name of the signal; returns what to say, or nothing if it can't yet.
type Stopping = Box<dyn FnMut(&str) -> Option<String> + Send>;

static STOPPING: Mutex<Option<Stopping>> = Mutex::new(None);

/// Has a command end by itself if a signal comes; dropped, no more.
#[must_use]
pub(crate) struct AtSignal;

impl AtSignal {
    pub(crate) fn ask(stopping: impl FnMut(&str) -> Option<String> + Send + 'static) -> Self {
        *STOPPING.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stopping));
        AtSignal
    }
}

impl Drop for AtSignal {
    fn drop(&mut self) {
        *STOPPING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Has something finished if a signal ends the process; dropped, no more.
#[must_use]
pub(crate) struct AtInterruption;

impl AtInterruption {
    pub(crate) fn run(ending: impl FnMut() -> Vec<String> + Send + 'static) -> Self {
        *ENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ending));
        AtInterruption
    }
}

impl Drop for AtInterruption {
    fn drop(&mut self) {
        *ENDING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Has signals that end this process finish and say what is saved first: SIGINT, SIGTERM, SIGUSR1 and SIGHUP, but for those that
/// the process was started to ignore.
#[cfg(unix)]
pub fn watch_signals() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::flag;
    use signal_hook::iterator::Signals;

    let has_come = Arc::new(AtomicBool::new(false));
    let watched = [SIGHUP, SIGINT, SIGTERM, SIGUSR1].into_iter();
    let watched: Vec<i32> = watched.filter(|&signal| !is_ignored(signal)).collect();
    for &signal in &watched {
        // In this order: the first signal is not a second one.
        let _ = flag::register_conditional_default(signal, Arc::clone(&has_come));
        let _ = flag::register(signal, Arc::clone(&has_come));
    }
    if let Ok(mut signals) = Signals::new(watched) {
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                end(signal);
            }
        });
    }
}

/// Signals are of systems that have them.
#[cfg(not(unix))]
pub fn watch_signals() {}

/// Whether whoever started the process wants it to live on, as `nohup` does.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(unix)]
fn end(signal: i32) {
    use std::io::Write;

    use lengthwise_outputs::{remove_unfinished, standard};

    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    let mut stopping = STOPPING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(said) = stopping.as_mut().and_then(|stopping| stopping(name)) {
        let _ = writeln!(standard::notes(), "{said}");
        return;
    }
    drop(stopping);
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    let saved = match ending.as_mut() {
        Some(ending) => ending(),
        None => vec!["nothing was saved".to_owned()],
    };
    remove_unfinished();
    let _ = writeln!(
        standard::notes(),
        "error: interrupted by {name}; {}",
        saved.join("; ")
    );
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
