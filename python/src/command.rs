//! The command `lengthwise`.

use std::io::{Write, stderr, stdout};

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
///     The exit code: 0 done, 1 the run failed, 2 bad input.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, words: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| {
        let exit = lengthwise::run(words, &mut Output::of_process());
        // Python ends the process without what Rust does at its end; a closed pipe is no error.
        let _ = stdout().flush();
        let _ = stderr().flush();
        exit as u8
    })
}
