//! Places for what can't be written where it was meant to.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::identity::directory_of;
use crate::sink::Sink;

/// Names with numbers from 1 to below this are tried in a directory.
const MOST_NAMES: u32 = 1000;

/// Directories to try, the best first: that of the place itself, the working directory, that of temporary files.
fn directories(place: &Path) -> [PathBuf; 3] {
    [
        directory_of(place).to_owned(),
        env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        env::temp_dir(),
    ]
}

/// The name, or with a number if that is taken.
fn numbered(place: &Path, number: u32) -> OsString {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name
}

/// Writes a file to the first place that takes it whole; says where that is.
pub(crate) fn write_elsewhere(
    place: &Path,
    mut open: impl FnMut() -> io::Result<Box<dyn Read>>,
) -> io::Result<PathBuf> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for directory in directories(place) {
        let created = (1..MOST_NAMES).find_map(|number| {
            let path = directory.join(numbered(place, number));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => Some(Ok((Sink::new(file, &path), path))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                Err(error) => Some(Err(error)),
            }
        });
        match created {
            Some(Ok((mut sink, path))) => {
                let written = open()
                    .and_then(|mut bytes| io::copy(&mut bytes, &mut sink))
                    .and_then(|_| sink.flush())
                    .and_then(|()| sink.sync());
                match written {
                    Ok(()) => return Ok(path),
                    Err(error) => failed = error,
                }
                let _ = fs::remove_file(&path);
            }
            Some(Err(error)) => failed = error,
            None => {}
        }
    }
    Err(failed)
}

/// New directories instead of one: beside it, in the working directory, in that of temporary files; each with its index,
/// from `first` on. One is created when it is asked for.
pub(crate) fn new_directories(
    place: &Path,
    first: usize,
) -> impl Iterator<Item = (usize, PathBuf)> {
    let all = directories(place).into_iter().enumerate().skip(first);
    all.filter_map(move |(index, directory)| {
        let created = (1..MOST_NAMES).find_map(|number| {
            let path = directory.join(numbered(place, number));
            match fs::create_dir(&path) {
                Ok(()) => Some(Ok(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                Err(error) => Some(Err(error)),
            }
        });
        Some((index, created?.ok()?))
    })
}
