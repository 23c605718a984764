//! Locks against two runs that write to one place.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::faults;
use crate::sink::is_unsupported;

/// Whether a file could be locked; it is as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    /// Somebody else has it.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Locks a file that is known by a path.
pub(crate) fn lock(file: &File, path: &Path) -> io::Result<Lock> {
    if !faults::has_locks(path) {
        return Ok(Lock::Unsupported);
    }
    match file.try_lock() {
        Ok(()) => Ok(Lock::Held),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Lock::Unsupported),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
