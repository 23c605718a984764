//! Unfinished files: written beside their place, under names that tell what they are, and never left behind.
//!
//! Each is locked while it is written, so that one whose writer was killed can be told from one that grows, and is
//! removed by the next run that writes to the same place.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::faults;
use crate::identity::directory_of;
use crate::lock::{Lock, lock};
use crate::sink::Sink;

/// Ending of the names of unfinished files.
const ENDING: &str = ".lengthwise-part";

/// All that this process has begun and not finished.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Counts the files of this process, so that no two have one name.
static NUM_PARTS: AtomicU64 = AtomicU64::new(0);

/// Removes all unfinished files of this process, for one that is about to end without running to its end.
pub fn remove_unfinished() {
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    // The files of a directory go before the directory, which goes only if nothing else is in it.
    for path in std::mem::take(&mut *unfinished).into_iter().rev() {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
}

/// Has a file or directory removed with all that is unfinished.
pub(crate) fn add_unfinished(path: &Path) {
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    unfinished.insert(path.to_owned());
}

/// Has it stay, or removed by others.
pub(crate) fn forget_unfinished(path: &Path) {
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    unfinished.remove(path);
}

/// A file that is not whole yet; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Part {
    sink: Sink,
    path: PathBuf,
    is_left: bool,
}

fn beginning(name: &OsStr) -> OsString {
    let mut beginning = OsString::from(".");
    beginning.push(name);
    beginning.push(".");
    beginning
}

/// A name for what is to become `place`, which no other file of any process has.
pub(crate) fn unused(place: &Path, name: &OsStr) -> PathBuf {
    let mut part = beginning(name);
    let number = NUM_PARTS.fetch_add(1, Ordering::Relaxed);
    part.push(format!("{}-{number}{ENDING}", std::process::id()));
    directory_of(place).join(part)
}

impl Part {
    /// Begins a file that is to become `place`, in its directory.
    pub fn create(place: &Path) -> io::Result<Self> {
        let name = place.file_name();
        let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        remove_stale(place);
        let path = unused(place, name);
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        // Its mode is what the user's mask leaves, as that of any new file.
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.create_new(true).open(&path)?;
        unfinished.insert(path.clone());
        drop(unfinished);
        Ok(Self::locked(file, path))
    }

    /// Takes a file of this process back: it is unfinished again.
    pub fn withdraw(place: &Path) -> io::Result<Self> {
        let path = unused(place, place.file_name().unwrap_or_default());
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        let file = OpenOptions::new().read(true).write(true).open(place)?;
        fs::rename(place, &path)?;
        unfinished.insert(path.clone());
        drop(unfinished);
        Ok(Self::locked(file, path))
    }

    fn locked(file: File, path: PathBuf) -> Self {
        // Where there are no locks, nobody takes it for left behind either.
        let _ = lock(&file, &path);
        Part {
            sink: Sink::new(file, &path),
            path,
            is_left: true,
        }
    }

    pub fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn sync(&self) -> io::Result<()> {
        self.sink.sync()
    }

    /// Gives it its place; what is there is replaced.
    pub fn replace(self, place: &Path) -> Result<(), (Self, io::Error)> {
        self.moved(place, |from, to| fs::rename(from, to))
    }

    /// Gives it its place, if nothing is there.
    pub fn publish_new(self, place: &Path) -> Result<(), (Self, io::Error)> {
        self.moved(place, rename_new)
    }

    fn moved(
        mut self,
        place: &Path,
        rename: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), (Self, io::Error)> {
        // Held, so that a process that is told to end does so before or after.
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        let renamed = faults::before_rename(place).and_then(|()| rename(&self.path, place));
        if let Err(error) = renamed {
            drop(unfinished);
            return Err((self, error));
        }
        unfinished.remove(&self.path);
        self.is_left = false;
        drop(unfinished);
        sync_directory(directory_of(place));
        Ok(())
    }

    /// All that was written so far, from the beginning.
    pub fn reread(&mut self) -> io::Result<&File> {
        self.sink.flush()?;
        self.sink.seek(SeekFrom::Start(0))?;
        Ok(self.sink.file())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_left {
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = fs::remove_file(&self.path);
            unfinished.remove(&self.path);
        }
    }
}

/// A rename lasts once its directory is on the disk; not all file systems can be asked for it.
pub(crate) fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Gives an unfinished directory with all that is in it its place, if nothing is there.
pub(crate) fn publish_directory(part: &Path, place: &Path) -> io::Result<()> {
    // Held, so that a process that is told to end does so before or after.
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    faults::before_rename(place)?;
    // Only an empty directory is replaced where renaming can't be told to replace nothing.
    rename_new_directory(part, place)?;
    unfinished.retain(|path| !path.starts_with(part));
    drop(unfinished);
    sync_directory(directory_of(place));
    Ok(())
}

fn rename_new_directory(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(error) if error == rustix::io::Errno::EXIST => return Err(error.into()),
            Err(_) => {}
        }
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Whether a name is one of those that unfinished files and directories have.
pub(crate) fn is_part_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(ENDING.as_bytes())
}

/// Removes what killed writers have left of a file.
pub(crate) fn remove_stale(place: &Path) {
    let Some(name) = place.file_name() else {
        return;
    };
    let beginning = beginning(name);
    let entries = fs::read_dir(directory_of(place)).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let between = name.strip_prefix(beginning.as_encoded_bytes());
        let between = between.and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
        let is_part = between.is_some_and(|between| {
            !between.is_empty()
                && between
                    .iter()
                    .all(|&byte| byte == b'-' || byte.is_ascii_digit())
        });
        let path = entry.path();
        let is_own = || {
            let unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            unfinished.contains(&path)
        };
        if is_part && !is_own() && is_abandoned(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether nobody writes to it any more: its lock is free.
fn is_abandoned(path: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(path);
    file.is_ok_and(|file| lock(&file, path).is_ok_and(|lock| lock == Lock::Held))
}

/// Renames without replacing anything.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(error) if error == rustix::io::Errno::EXIST => return Err(error.into()),
            // Not all file systems know it, network ones least of all.
            Err(_) => {}
        }
    }
    // Unlike renaming, linking fails where there is a file.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Nor do all know links; between looking and renaming there is a moment then.
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}
