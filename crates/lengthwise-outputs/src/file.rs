//! Files that are whole or not there.

use std::fs;
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::elsewhere::write_elsewhere;
use crate::error::{NotSaved, OutputError, OutputRule, Saved};
use crate::part::Part;
use crate::sink::Sink;
use crate::target::Target;

/// A file that is to be written as a whole, and could be when it was declared.
#[derive(Debug)]
pub struct FileOutput {
    name: String,
    path: PathBuf,
    target: Target,
}

impl FileOutput {
    pub(crate) fn new(name: &str, path: &Path, target: Target) -> Self {
        FileOutput {
            name: name.to_owned(),
            path: path.to_owned(),
            target,
        }
    }

    /// A file that no command has declared: one that a caller of the library names.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn at(path: &Path) -> io::Result<Self> {
        let target = Target::of(path).map_err(|rule| match rule {
            OutputRule::Unwritable { error } => error,
            OutputRule::NoDirectory { .. } => io::ErrorKind::NotFound.into(),
            OutputRule::IsDirectory => io::ErrorKind::IsADirectory.into(),
            other => io::Error::other(other.to_string()),
        })?;
        Ok(FileOutput::new("", path, target))
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it all; where its place does not take it in the end, some other does.
    ///
    /// # Errors
    ///
    /// No place takes it.
    pub fn write(self, bytes: &[u8]) -> Result<Saved, NotSaved> {
        let Err(error) = self.try_to_write(bytes) else {
            return Ok(Saved::at(&self.path));
        };
        let elsewhere = match &self.target {
            Target::File { place, .. } => {
                let open = || Ok(Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn io::Read>);
                write_elsewhere(place, open).ok()
            }
            _ => None,
        };
        match elsewhere {
            Some(path) => Ok(Saved::instead(path, &self.path, &error)),
            None => Err(NotSaved::new(&self.path, error)),
        }
    }

    /// Writes it all where it was meant to go, or not at all.
    ///
    /// # Errors
    ///
    /// It can't be written there.
    pub fn write_there(self, bytes: &[u8]) -> io::Result<()> {
        self.try_to_write(bytes)
    }

    fn try_to_write(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.target {
            Target::File { place, permissions } => write_whole(place, permissions.as_ref(), bytes),
            Target::Device(path) => Target::open_device(path).and_then(|sink| put(sink, bytes)),
            Target::Standard(file) => file
                .try_clone()
                .and_then(|file| put(Sink::new(file, &self.path), bytes)),
        }
    }

    /// Writes it all, if there is no such file yet.
    ///
    /// # Errors
    ///
    /// There is one, or it can't be written.
    pub fn write_new(self, bytes: &[u8]) -> io::Result<()> {
        let Target::File { place, permissions } = &self.target else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        if permissions.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut part = Part::create(place)?;
        part.sink().write_all(bytes)?;
        part.sync()?;
        part.publish_new(place).map_err(|(_, error)| error)
    }

    /// Begins to write it piece by piece.
    ///
    /// # Errors
    ///
    /// It can't be written any more.
    pub fn open(self) -> Result<OpenFile, OutputError> {
        let failed = |error: io::Error| OutputError::new(&self.name, &self.path, error.into());
        let open = match self.target {
            Target::File { place, permissions } => Open::Part {
                part: Part::create(&place).map_err(failed)?,
                place,
                permissions,
            },
            Target::Device(ref path) => Open::Device(Target::open_device(path).map_err(failed)?),
            Target::Standard(file) => Open::Device(Sink::new(file, &self.path)),
        };
        Ok(OpenFile {
            path: self.path,
            open,
        })
    }
}

fn put(mut sink: Sink, bytes: &[u8]) -> io::Result<()> {
    sink.write_all(bytes)?;
    sink.flush()
}

fn write_whole(place: &Path, permissions: Option<&Permissions>, bytes: &[u8]) -> io::Result<()> {
    let mut part = Part::create(place)?;
    part.sink().write_all(bytes)?;
    finish(part, place, permissions).map_err(|(_, error)| error)
}

/// Makes a part the file that it was to become, with the permissions of the one before it.
fn finish(
    part: Part,
    place: &Path,
    permissions: Option<&Permissions>,
) -> Result<(), (Part, io::Error)> {
    if let Err(error) = part.sync() {
        return Err((part, error));
    }
    if let Some(permissions) = permissions {
        // If permissions can't be changed, the file keeps those of new files.
        let _ = fs::set_permissions(part.path(), permissions.clone());
    }
    part.replace(place)
}

/// A file that is written piece by piece, each handed to the system at once; it takes its place when it is finished, and dropped it never was.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Part {
        part: Part,
        place: PathBuf,
        permissions: Option<Permissions>,
    },
    Device(Sink),
}

impl OpenFile {
    /// Begins a file that no command has declared.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let opened = FileOutput::at(path)?.open();
        opened.map_err(|error| match error.rule {
            OutputRule::Unwritable { error } => error,
            other => io::Error::other(other.to_string()),
        })
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what was written can be written over, by [`OpenFile::return_to`].
    pub fn is_file(&self) -> bool {
        matches!(self.open, Open::Part { .. })
    }

    /// Forgets what was written beyond so many bytes; what comes next is written there.
    ///
    /// # Errors
    ///
    /// The error of the system; always an error for a device, which can't go back.
    pub fn return_to(&mut self, len: u64) -> io::Result<()> {
        match &mut self.open {
            Open::Part { part, .. } => {
                let sink = part.sink();
                sink.truncate(len)?;
                sink.seek(SeekFrom::Start(len)).map(|_| ())
            }
            Open::Device(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }

    /// Gives it its place, on the disk.
    ///
    /// # Errors
    ///
    /// Its place does not take it.
    pub fn finish_there(self) -> io::Result<()> {
        match self.open {
            Open::Part {
                part,
                place,
                permissions,
            } => finish(part, &place, permissions.as_ref()).map_err(|(_, error)| error),
            Open::Device(mut sink) => sink.flush(),
        }
    }

    /// Gives it its place; where that does not take it in the end, some other does.
    ///
    /// # Errors
    ///
    /// No place takes it, or not all of it could be written.
    pub fn finish(self) -> Result<Saved, NotSaved> {
        let path = self.path;
        match self.open {
            Open::Part {
                part,
                place,
                permissions,
            } => match finish(part, &place, permissions.as_ref()) {
                Ok(()) => Ok(Saved::at(&path)),
                Err((mut part, error)) => {
                    let open = || {
                        let file: File = part.reread()?.try_clone()?;
                        Ok(Box::new(file) as Box<dyn io::Read>)
                    };
                    match write_elsewhere(&place, open) {
                        Ok(elsewhere) => Ok(Saved::instead(elsewhere, &path, &error)),
                        Err(_) => Err(NotSaved::new(&path, error)),
                    }
                }
            },
            Open::Device(mut sink) => match sink.flush() {
                Ok(()) => Ok(Saved::at(&path)),
                Err(error) => Err(NotSaved::new(&path, error)),
            },
        }
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.open {
            Open::Part { part, .. } => part.sink().write(bytes),
            Open::Device(sink) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.open {
            Open::Part { part, .. } => part.sink().flush(),
            Open::Device(sink) => sink.flush(),
        }
    }
}
