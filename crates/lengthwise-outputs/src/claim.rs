//! The claim of one writer at a time on a directory.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::error::OutputRule;
use crate::lock::{Lock, lock};
use crate::part::{add_unfinished, forget_unfinished};

/// The file that one writer at a time has locked.
const LOCK: &str = ".lengthwise-lock";

/// The lock on a directory.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    is_held: bool,
    _file: File,
}

impl Claim {
    pub fn new(directory: &Path) -> Result<Self, OutputRule> {
        let path = directory.join(LOCK);
        loop {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            let is_held = match lock(&file, &path)? {
                Lock::Busy => return Err(OutputRule::Busy),
                Lock::Held => true,
                Lock::Unsupported => false,
            };
            // Whoever had it before may have removed it in between: what is locked then is no file that others see.
            if !is_held || is_at(&file, &path) {
                if is_held {
                    add_unfinished(&path);
                }
                return Ok(Claim {
                    path,
                    is_held,
                    _file: file,
                });
            }
        }
    }

    /// Whether nobody else can have it.
    pub fn is_held(&self) -> bool {
        self.is_held
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_held {
            forget_unfinished(&self.path);
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => open.dev() == there.dev() && open.ino() == there.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}
