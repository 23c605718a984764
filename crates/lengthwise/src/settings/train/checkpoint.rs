//! `[checkpoint]`: where the state of a run is saved, and what it goes on from.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// Steps from one checkpoint to the next.
const EVERY: u64 = 100;

/// How many are kept: the newest, and one before it.
const KEEP: usize = 2;

/// What stands for the newest checkpoint of the directory.
const LATEST: &str = "latest";

/// Where the state of a run is saved, and what it goes on from.
#[derive(Clone, Debug)]
pub struct CheckpointSettings {
    /// Where all checkpoints are; `None` where there are none.
    pub directory: Option<Setting<PathBuf>>,
    /// Steps from one to the next.
    pub every: NonZero<u64>,
    /// How many are kept.
    pub keep: NonZero<usize>,
    /// Whether training goes on while one is written.
    pub is_async: bool,
    /// What the run goes on from: the newest one where there is no path.
    pub resume: Option<Setting<Option<PathBuf>>>,
}

/// Reads them.
pub fn checkpoint(reader: &mut Reader<'_>) -> Result<CheckpointSettings, Failure> {
    let mut directory = reader.optional::<PathBuf>("checkpoint.directory")?;
    if let Some(directory) = &mut directory {
        directory.value = reader.path(directory, &directory.value)?;
    }
    let every = reader.get("checkpoint.every", EVERY)?;
    let keep = reader.get("checkpoint.keep", KEEP)?;
    let is_async = reader.get("checkpoint.async", true)?;
    let resume = reader.optional::<PathBuf>("checkpoint.resume")?;
    let place = "give it with checkpoint.directory or --checkpoints";
    let has_directory = directory.is_some();
    for (is_given, lacks) in [
        (
            every.is_given(),
            every.breaks("there is no directory for checkpoints"),
        ),
        (
            keep.is_given(),
            keep.breaks("there is no directory for checkpoints"),
        ),
        (
            is_async.is_given(),
            is_async.breaks("there is no directory for checkpoints"),
        ),
    ] {
        if is_given && !has_directory {
            return Err(lacks.hint(place));
        }
    }
    let Some(num_every) = NonZero::new(every.value) else {
        let failure = every.breaks("it must be at least 1");
        return Err(failure.hint("it is the number of steps from one checkpoint to the next"));
    };
    let Some(num_kept) = NonZero::new(keep.value) else {
        let failure = keep.breaks("it must be at least 1");
        return Err(failure.hint("an older checkpoint is removed only once a newer one is whole"));
    };
    let resume = match resume {
        Some(setting) => {
            let is_latest = setting.value == Path::new(LATEST);
            if is_latest && !has_directory {
                let failure = setting.breaks("there is no directory of checkpoints");
                return Err(failure.hint(place));
            }
            let path = reader.path(&setting, &setting.value)?;
            Some(Setting {
                value: (!is_latest).then_some(path),
                key: setting.key,
                written: setting.written,
                place: setting.place,
            })
        }
        None => None,
    };
    Ok(CheckpointSettings {
        directory,
        every: num_every,
        keep: num_kept,
        is_async: is_async.value,
        resume,
    })
}
