//! Files that appear in a directory together, and replace none.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::claim::Claim;
use crate::elsewhere::new_directories;
use crate::error::{NotSaved, OutputError, OutputRule, Saved};
use crate::identity::directory_of;
use crate::part::{Part, add_unfinished, forget_unfinished};
use crate::target::Target;

/// Makes a directory that is kept, with those above it, unless it is there.
///
/// # Errors
///
/// It can't be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Files that are to appear in a directory together: under the names of unfinished files until all are written.
#[derive(Debug)]
pub struct NewDirectory {
    /// As it was named.
    path: PathBuf,
    /// Directory that the files are written to: `path`, or one instead of it.
    directory: PathBuf,
    /// Files none of which may be there.
    files: &'static [&'static str],
    /// The error that keeps them from `path`.
    failure: Option<io::Error>,
    /// Of the directories instead.
    num_tried: usize,
    is_new: bool,
    claim: Option<Claim>,
    parts: Vec<(String, Part)>,
}

/// The bytes that are free where a directory is, if the system says.
#[cfg(unix)]
pub(crate) fn free_bytes(directory: &Path) -> Option<u64> {
    let of = rustix::fs::statvfs(directory).ok()?;
    of.f_bavail.checked_mul(of.f_frsize)
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

impl NewDirectory {
    /// Checks that files can appear in a directory, without creating it.
    ///
    /// # Errors
    ///
    /// One of them is there, or they can't be written.
    pub(crate) fn check(path: &Path, files: &'static [&'static str]) -> Result<(), OutputRule> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => return Err(OutputRule::IsFile),
            Ok(_) => check_absent(path, files)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        // The deepest directory of the path that exists: anything can be created in it, or nothing.
        let mut directory = path;
        while !directory.is_dir() {
            if fs::symlink_metadata(directory).is_ok() && !directory.exists() {
                return Err(OutputRule::NoDirectory {
                    directory: directory.to_owned(),
                });
            }
            directory = directory_of(directory);
        }
        Ok(Target::of(&directory.join("config.json"))?.try_file()?)
    }

    /// Claims a directory, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// One of the files is there, another run writes to it, it can't be written, or it has less room than is needed.
    pub fn claim(
        name: &str,
        path: &Path,
        files: &'static [&'static str],
        num_bytes: u64,
    ) -> Result<Self, OutputError> {
        let failed = |rule| OutputError::new(name, path, rule);
        Self::check(path, files).map_err(failed)?;
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|error| failed(error.into()))?;
        let mut claimed = NewDirectory {
            path: path.to_owned(),
            directory: path.to_owned(),
            files,
            failure: None,
            num_tried: 0,
            is_new,
            claim: None,
            parts: Vec::new(),
        };
        if is_new {
            add_unfinished(path);
        }
        claimed.claim = Some(Claim::new(path).map_err(failed)?);
        // Again: another run may have ended in between.
        check_absent(path, files).map_err(failed)?;
        if let Some(free) = free_bytes(path).filter(|&free| free < num_bytes) {
            return Err(failed(OutputRule::NoRoom {
                needed_mib: num_bytes.div_ceil(1 << 20),
                free_mib: free >> 20,
            }));
        }
        Ok(claimed)
    }

    /// Returns a warning if no lock keeps two runs from writing to it at once.
    pub fn unlocked(&self) -> Option<String> {
        let is_held = self.claim.as_ref().is_none_or(Claim::is_held);
        let path = self.path.display();
        (!is_held).then(|| {
            format!("files can't be locked where {path} is; let only one run at a time write to it")
        })
    }

    /// Writes a file, which appears with all others. Where the directory does not take it, another does, with all files.
    ///
    /// # Errors
    ///
    /// No directory takes it.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), NotSaved> {
        loop {
            match self.part(name, bytes) {
                Ok(part) => {
                    self.parts.push((name.to_owned(), part));
                    return Ok(());
                }
                Err(error) => self.move_on(error)?,
            }
        }
    }

    fn part(&self, name: &str, bytes: &[u8]) -> io::Result<Part> {
        // It may have been removed since it was claimed.
        if !self.directory.is_dir() {
            fs::create_dir_all(&self.directory)?;
        }
        let mut part = Part::create(&self.directory.join(name))?;
        part.sink().write_all(bytes)?;
        part.sync()?;
        Ok(part)
    }

    /// Takes all that is written so far to the next directory that takes it.
    fn move_on(&mut self, error: io::Error) -> Result<(), NotSaved> {
        let left = self.failure.is_some().then(|| self.directory.clone());
        let error = self.failure.take().unwrap_or(error);
        let mut moved = None;
        for (index, directory) in new_directories(&self.path, self.num_tried) {
            self.num_tried = index + 1;
            let copies = self.parts.iter_mut().map(|(name, part)| {
                let mut copy = Part::create(&directory.join(&*name))?;
                io::copy(&mut part.reread()?, copy.sink())?;
                copy.sync()?;
                Ok((name.clone(), copy))
            });
            let copies: io::Result<Vec<_>> = copies.collect();
            match copies {
                Ok(copies) => {
                    moved = Some((directory, copies));
                    break;
                }
                // Only what is empty goes.
                Err(_) => drop(fs::remove_dir(&directory)),
            }
        }
        let Some((directory, copies)) = moved else {
            self.parts.clear();
            left.map(fs::remove_dir);
            return Err(NotSaved::new(&self.path, error));
        };
        self.parts = copies;
        self.directory = directory;
        self.failure = Some(error);
        left.map(fs::remove_dir);
        Ok(())
    }

    /// Makes all files appear, the last one that was written last; they replace nothing.
    ///
    /// # Errors
    ///
    /// No directory takes them.
    pub fn publish(mut self) -> Result<Saved, NotSaved> {
        while let Err(error) = self.publish_here() {
            self.move_on(error)?;
        }
        Ok(match self.failure.take() {
            None => Saved::at(&self.path),
            Some(error) => Saved::instead(self.directory.clone(), &self.path, &error),
        })
    }

    /// All files, or none.
    fn publish_here(&mut self) -> io::Result<()> {
        check_absent(&self.directory, self.files).map_err(|rule| match rule {
            OutputRule::Unwritable { error } => error,
            rule => io::Error::new(io::ErrorKind::AlreadyExists, rule.to_string()),
        })?;
        let mut published: Vec<(String, PathBuf)> = Vec::new();
        let mut parts = std::mem::take(&mut self.parts).into_iter();
        while let Some((name, part)) = parts.next() {
            let place = self.directory.join(&name);
            if let Err((part, error)) = part.publish_new(&place) {
                for (name, place) in published {
                    self.parts.push((name, Part::withdraw(&place)?));
                }
                self.parts.push((name, part));
                self.parts.extend(parts);
                return Err(error);
            }
            published.push((name, place));
        }
        Ok(())
    }
}

fn check_absent(directory: &Path, files: &[&str]) -> Result<(), OutputRule> {
    for file in files {
        let path = directory.join(file);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(OutputRule::Exists { path });
        }
    }
    Ok(())
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        self.parts.clear();
        self.claim = None;
        if self.is_new {
            forget_unfinished(&self.path);
            // Only if nothing is in it.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
