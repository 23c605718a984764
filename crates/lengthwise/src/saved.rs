//! What to say of results that are written.

use lengthwise_outputs::{NotSaved, Saved};

use crate::failure::Failure;

/// The failure of a command whose work is done, if `what` is not where it was to be.
pub(crate) fn check_saved(what: &str, saved: &Result<Saved, NotSaved>) -> Result<(), Failure> {
    match problem(what, saved) {
        Some(problem) => Err(Failure::unsaved(problem)),
        None => Ok(()),
    }
}

/// What is wrong, if something is not where it was to be.
pub(crate) fn problem(what: &str, saved: &Result<Saved, NotSaved>) -> Option<String> {
    match saved {
        Ok(saved) => saved.elsewhere(what),
        Err(error) => Some(format!("{what} is lost: {error}")),
    }
}
