//! Locks against two runs that write to one place.

use std::fs::{File, TryLockError};
use std::io;

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

pub(crate) fn lock(file: &File) -> io::Result<Lock> {
    match file.try_lock() {
        Ok(()) => Ok(Lock::Held),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Lock::Unsupported),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
