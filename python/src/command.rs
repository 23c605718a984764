//! The command `lengthwise`.

use std::sync::Once;

use lengthwise::Output;
use pyo3::prelude::*;

/// Run the command, of which the first word is the program's name, on the streams of the process.
///
/// Parameters
/// ----------
/// words : list of str
///     The program's name and its arguments.
///
/// Returns
/// -------
/// int
///     The exit code: 0 done, 1 the run failed, 2 bad input, 3 some result is not where it was to be.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, words: Vec<std::ffi::OsString>) -> u8 {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(lengthwise::watch_signals);
    py.detach(|| lengthwise::run(words, &mut Output::of_process()) as u8)
}
