//! Directories that appear in another one after another, each whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::claim::Claim;
use crate::directory::free_bytes;
use crate::error::{OutputError, OutputRule};
use crate::part::{
    add_unfinished, forget_unfinished, is_part_name, publish_directory, sync_directory, unused,
};
use crate::sink::Sink;

/// A directory in which directories appear one after another, by one run at a time.
#[derive(Debug)]
pub struct DirectorySeries {
    path: PathBuf,
    is_new: bool,
    claim: Option<Claim>,
}

impl DirectorySeries {
    /// Claims a directory, which is created if it is not there; what a killed run has left unfinished in it is removed.
    ///
    /// # Errors
    ///
    /// Another run writes to it, it can't be written, or it has less room than `num_bytes`.
    pub fn claim(name: &str, path: &Path, num_bytes: u64) -> Result<Self, OutputError> {
        let failed = |rule| OutputError::new(name, path, rule);
        if path.exists() && !path.is_dir() {
            return Err(failed(OutputRule::IsFile));
        }
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|error| failed(error.into()))?;
        if is_new {
            add_unfinished(path);
        }
        let mut series = DirectorySeries {
            path: path.to_owned(),
            is_new,
            claim: None,
        };
        let claim = Claim::new(path).map_err(failed)?;
        // Without a lock, what is unfinished may be another run's.
        if claim.is_held() {
            remove_abandoned(path);
        }
        series.claim = Some(claim);
        if let Some(free) = free_bytes(path).filter(|&free| free < num_bytes) {
            return Err(failed(OutputRule::NoRoom {
                needed_mib: num_bytes.div_ceil(1 << 20),
                free_mib: free >> 20,
            }));
        }
        Ok(series)
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a warning if no lock keeps two runs from writing to it at once.
    pub fn unlocked(&self) -> Option<String> {
        let is_held = self.claim.as_ref().is_none_or(Claim::is_held);
        let path = self.path.display();
        (!is_held).then(|| {
            format!("files can't be locked where {path} is; let only one run at a time write to it")
        })
    }

    /// Begins a directory that is to be there under a name.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn begin(&self, name: &str) -> io::Result<WholeDirectory> {
        let place = self.path.join(name);
        let part = unused(&place, name.as_ref());
        fs::create_dir_all(&self.path)?;
        fs::create_dir(&part)?;
        add_unfinished(&part);
        Ok(WholeDirectory {
            place,
            part,
            is_left: true,
        })
    }

    /// Removes a directory: first its name, so that it is whole or not there, then what is in it.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let place = self.path.join(name);
        let part = unused(&place, name.as_ref());
        fs::rename(&place, &part)?;
        sync_directory(&self.path);
        fs::remove_dir_all(&part)
    }
}

impl Drop for DirectorySeries {
    fn drop(&mut self) {
        self.claim = None;
        if self.is_new {
            forget_unfinished(&self.path);
            // Only if nothing is in it.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn remove_abandoned(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        if is_part_name(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory that is not whole yet; dropped, it is gone.
#[derive(Debug)]
pub struct WholeDirectory {
    place: PathBuf,
    part: PathBuf,
    is_left: bool,
}

impl WholeDirectory {
    /// Path of the directory once it is published.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Begins a file in it.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn create(&self, name: &str) -> io::Result<DirectoryFile> {
        let path = self.part.join(name);
        let file = File::create_new(&path)?;
        add_unfinished(&path);
        Ok(DirectoryFile {
            sink: Sink::new(file, &path),
        })
    }

    /// Gives it its name, behind all that is in it; it replaces nothing.
    ///
    /// # Errors
    ///
    /// The error of the system; what was there is there still.
    pub fn publish(mut self) -> io::Result<PathBuf> {
        sync_directory(&self.part);
        publish_directory(&self.part, &self.place)?;
        self.is_left = false;
        Ok(self.place.clone())
    }
}

impl Drop for WholeDirectory {
    fn drop(&mut self) {
        if self.is_left {
            let entries = fs::read_dir(&self.part).into_iter().flatten();
            for entry in entries.flatten() {
                forget_unfinished(&entry.path());
            }
            let _ = fs::remove_dir_all(&self.part);
            forget_unfinished(&self.part);
        }
    }
}

/// A file of a directory that is not whole yet.
#[derive(Debug)]
pub struct DirectoryFile {
    sink: Sink,
}

impl DirectoryFile {
    /// Ends it: it is on the disk then.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn finish(mut self) -> io::Result<()> {
        self.sink.flush()?;
        self.sink.sync()
    }
}

impl Write for DirectoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
