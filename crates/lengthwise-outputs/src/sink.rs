//! An open file or device: the one place where bytes are handed to the system.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::faults;

/// A file, device or stream open for writing, and the path that it is known by.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
}

impl Sink {
    pub fn new(file: File, path: &Path) -> Self {
        Sink {
            file,
            path: path.to_owned(),
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    pub fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Waits until it is on the disk; what has no disk is on it at once.
    pub fn sync(&self) -> io::Result<()> {
        faults::before_sync(&self.path)?;
        match self.file.sync_all() {
            Err(error) if is_unsupported(&error) => Ok(()),
            synced => synced,
        }
    }
}

/// Whether a file system, or what is no file, knows nothing of what it was asked.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    // Pipes and terminals say that the argument is invalid.
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    ) || error.raw_os_error() == Some(ENOLCK)
}

/// The system has no locks: a server that doesn't run its lock daemon, for example.
const ENOLCK: i32 = 37;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let allowed = faults::before_write(&self.path, bytes.len())?;
        self.file.write(&bytes[..allowed])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
