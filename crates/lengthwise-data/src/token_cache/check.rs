//! Whether files are still what was written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::DataError;
use crate::token_files::{TokenFiles, hash_of, with_ending};

/// Files and what they must hash to.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashedFiles {
    files: Vec<(PathBuf, String)>,
}

impl HashedFiles {
    /// Those of some token files, as far as their hashes are known.
    pub fn of<'a>(token_files: impl IntoIterator<Item = &'a TokenFiles>) -> Self {
        let of_one = |one: &'a TokenFiles| {
            let hashes = one.about().into_iter().flat_map(|about| &about.files);
            hashes.map(|hash| (with_ending(one.prefix(), &hash.ending), hash.xxh3.clone()))
        };
        HashedFiles {
            files: token_files.into_iter().flat_map(of_one).collect(),
        }
    }

    /// Reads all of them that are still there, as long as `goes_on` says so.
    ///
    /// # Errors
    ///
    /// One can't be read, or is another.
    pub fn check(&self, goes_on: &dyn Fn() -> bool) -> Result<(), DataError> {
        for (path, expected) in &self.files {
            let found = match hash_of(path, goes_on) {
                // What was removed is read from the open file, which nothing else writes to.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => {
                    let path = path.clone();
                    return Err(DataError::Read { path, source });
                }
                Ok(found) => found,
            };
            match found {
                Some(found) if found != *expected => return Err(changed(path, expected, &found)),
                Some(_) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

fn changed(path: &Path, expected: &str, found: &str) -> DataError {
    DataError::TokensChanged {
        path: path.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// A check that goes on while other work does.
#[derive(Debug)]
pub struct BackgroundCheck {
    is_wanted: Arc<AtomicBool>,
    found: Arc<Mutex<Option<DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundCheck {
    /// Begins to read files.
    pub(crate) fn begin(files: HashedFiles) -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let found = Arc::new(Mutex::new(None));
        let work = {
            let (is_wanted, found) = (Arc::clone(&is_wanted), Arc::clone(&found));
            move || {
                let checked = files.check(&|| is_wanted.load(Ordering::Relaxed));
                *found.lock().unwrap_or_else(PoisonError::into_inner) = checked.err();
            }
        };
        // Where no thread is left for it, nothing is checked in the background.
        let thread = thread::Builder::new()
            .name("token check".to_owned())
            .spawn(work);
        BackgroundCheck {
            is_wanted,
            found,
            thread: thread.ok(),
        }
    }

    /// Takes the error, once one is found.
    pub fn take_error(&self) -> Option<DataError> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for BackgroundCheck {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}
