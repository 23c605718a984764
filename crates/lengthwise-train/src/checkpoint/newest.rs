//! The checkpoints of a directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Checkpoint, CheckpointError, name_of};

/// The steps that a directory holds checkpoints of, in their order; none where there is no such directory.
///
/// # Errors
///
/// It can't be read.
pub fn steps_in(directory: &Path) -> Result<Vec<u64>, CheckpointError> {
    let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
        path: directory.to_owned(),
        reason: error.to_string(),
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
        let step = step.and_then(|step| step.parse().ok());
        // Names that would be written in another way are not ours.
        steps.extend(step.filter(|&step| *name == *name_of(step)));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The newest checkpoint of a directory, read and checked; `None` where there is none.
///
/// # Errors
///
/// It is broken: the error names the newest one before it that is whole.
pub fn latest(directory: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let steps = steps_in(directory)?;
    let Some((newest, older)) = steps.split_last() else {
        return Ok(None);
    };
    let path = directory.join(name_of(*newest));
    let source = match whole(&path) {
        Ok(checkpoint) => return Ok(Some(checkpoint)),
        Err(error) => Box::new(error),
    };
    let older = older
        .iter()
        .rev()
        .map(|&step| directory.join(name_of(step)));
    Err(CheckpointError::NewestBroken {
        source,
        newest: path,
        older: older.into_iter().find(|older| whole(older).is_ok()),
    })
}

fn whole(directory: &Path) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::open(directory)?;
    checkpoint.verify()?;
    Ok(checkpoint)
}
