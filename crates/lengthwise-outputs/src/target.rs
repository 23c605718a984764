//! The file, device or stream that an output goes to, and whether it can be written.

use std::fs::{self, File, FileType, OpenOptions, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::OutputRule;
use crate::identity::{directory_of, resolved};
use crate::part::Part;
use crate::sink::Sink;
use crate::standard;

/// The file, device or stream that an output goes to.
#[derive(Debug)]
pub(crate) enum Target {
    /// A file, or room for one.
    File {
        /// Behind all links.
        place: PathBuf,
        /// Of the file that is there.
        permissions: Option<Permissions>,
    },
    /// A device or pipe.
    Device(PathBuf),
    /// A stream that the process has open already.
    Standard(File),
}

/// Bytes that are written to find out whether there is any room.
const TRIAL_BYTES: usize = 4096;

impl Target {
    /// Returns the target that a path leads to.
    pub fn of(path: &Path) -> Result<Self, OutputRule> {
        if let Some(file) = standard::opened(path) {
            return Ok(Target::Standard(file?));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(OutputRule::IsDirectory),
            Ok(metadata) if metadata.is_file() => Ok(Target::File {
                place: resolved(path)?,
                permissions: Some(metadata.permissions()),
            }),
            Ok(metadata) => {
                check_device(metadata.file_type())?;
                Ok(Target::Device(path.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = directory_of(path);
                if !directory.is_dir() && fs::symlink_metadata(path).is_err() {
                    return Err(OutputRule::NoDirectory {
                        directory: directory.to_owned(),
                    });
                }
                Ok(Target::File {
                    place: resolved(path)?,
                    permissions: None,
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tries to write, without changing what is there.
    pub fn try_file(&self) -> io::Result<()> {
        match self {
            Target::File { place, permissions } => {
                if permissions.is_some() {
                    OpenOptions::new().append(true).open(place)?;
                }
                let mut part = Part::create(place)?;
                part.sink().write_all(&[0; TRIAL_BYTES])?;
                part.sync()
            }
            // To open a pipe would wait for its reader.
            Target::Device(_) | Target::Standard(_) => Ok(()),
        }
    }

    /// Tries to add, without changing what is there.
    pub fn try_adding(&self) -> io::Result<()> {
        match self {
            Target::File {
                place,
                permissions: Some(_),
            } => OpenOptions::new().append(true).open(place).map(|_| ()),
            _ => self.try_file(),
        }
    }

    /// A device, open.
    pub fn open_device(path: &Path) -> io::Result<Sink> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Sink::new(file, path))
    }
}

#[cfg(unix)]
fn check_device(kind: FileType) -> Result<(), OutputRule> {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_socket() {
        let error = io::Error::new(io::ErrorKind::Unsupported, "it is a socket");
        return Err(OutputRule::Unwritable { error });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_device(_: FileType) -> Result<(), OutputRule> {
    Ok(())
}
