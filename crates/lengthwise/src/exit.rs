//! How a command ends.

use std::process::ExitCode;

/// How a command ends; the number is the exit code of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It has done what it was asked.
    Done = 0,
    /// The run began and failed.
    RunFailed = 1,
    /// Bad input: nothing was run.
    BadInput = 2,
    /// All was done, and some of its results are not where they were to be: the error says which, and where they are.
    NotSaved = 3,
    /// A signal has asked the run to end; it has saved its state, and can be gone on with.
    Stopped = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
