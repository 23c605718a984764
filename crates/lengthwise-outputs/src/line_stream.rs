//! Files that lines are added to while a run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::elsewhere::write_elsewhere;
use crate::error::{NotSaved, OutputError, OutputRule, Saved};
use crate::lock::{Lock, lock};
use crate::sink::Sink;
use crate::target::Target;

/// Bytes of lines that are kept until they can be written.
const MOST_KEPT: usize = 256 << 20;

/// A file that lines are to be added to, and could be when it was declared.
#[derive(Debug)]
pub struct StreamOutput {
    name: String,
    path: PathBuf,
    target: Target,
}

impl StreamOutput {
    pub(crate) fn new(name: &str, path: &Path, target: Target) -> Self {
        StreamOutput {
            name: name.to_owned(),
            path: path.to_owned(),
            target,
        }
    }

    /// Opens it for one run. Its content stays, and every line is added behind all that is there by then.
    ///
    /// # Errors
    ///
    /// It can't be written any more, or another run has it open.
    pub fn open(self) -> Result<LineStream, OutputError> {
        let failed = |rule| OutputError::new(&self.name, &self.path, rule);
        let mut stream = LineStream {
            path: self.path.clone(),
            place: None,
            sink: None,
            is_new: false,
            is_locked: false,
            has_locks: true,
            kept: Vec::new(),
            num_kept: 0,
            num_lost: 0,
            failure: None,
        };
        match self.target {
            Target::File { place, .. } => {
                let (file, is_new) =
                    open_for_lines(&place).map_err(|error| failed(error.into()))?;
                match lock(&file, &place).map_err(|error| failed(error.into()))? {
                    Lock::Held => stream.is_locked = true,
                    Lock::Busy => return Err(failed(OutputRule::Busy)),
                    Lock::Unsupported => stream.has_locks = false,
                }
                if ends_within_line(&file) {
                    // A run was killed in the middle of it: what comes is no part of that line.
                    stream.kept.push(b'\n');
                }
                stream.sink = Some(Sink::new(file, &place));
                stream.is_new = is_new;
                stream.place = Some(place);
            }
            Target::Device(ref path) => {
                let sink = Target::open_device(path).map_err(|error| failed(error.into()))?;
                stream.sink = Some(sink);
            }
            Target::Standard(file) => stream.sink = Some(Sink::new(file, &self.path)),
        }
        Ok(stream)
    }
}

/// Opens a file to add to it; whether there was none.
fn open_for_lines(place: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.clone().read(true).create_new(true).open(place) {
        Ok(file) => Ok((file, true)),
        Err(_) => {
            let opened = options.clone().read(true).open(place);
            // A file that may be written but not read is opened for writing alone.
            opened
                .or_else(|_| options.open(place))
                .map(|file| (file, false))
        }
    }
}

fn ends_within_line(mut file: &File) -> bool {
    let mut last = [b'\n'];
    let read = file
        .seek(SeekFrom::End(-1))
        .and_then(|_| file.read(&mut last));
    read.is_ok() && last != *b"\n"
}

/// A file that lines are added to, whole ones, each as soon as it is known.
#[derive(Debug)]
pub struct LineStream {
    path: PathBuf,
    /// The file behind all links; none of a device.
    place: Option<PathBuf>,
    sink: Option<Sink>,
    /// Whether there was no such file before.
    is_new: bool,
    is_locked: bool,
    has_locks: bool,
    /// Lines that could not be written yet.
    kept: Vec<u8>,
    num_kept: u64,
    num_lost: u64,
    /// The last one, if what came after was not written either.
    failure: Option<io::Error>,
}

impl LineStream {
    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a warning if no lock keeps two runs from writing to it at once.
    pub fn unlocked(&self) -> Option<String> {
        let path = self.path.display();
        (!self.has_locks).then(|| {
            format!("files can't be locked where {path} is; let only one run at a time write to it")
        })
    }

    /// Adds a line. A line that can't be written is kept, and written with a later one if that can be; the error is
    /// given only once, when the first line can't be.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn write_line(&mut self, line: &str) -> Result<(), io::Error> {
        if self.kept.len() + line.len() < MOST_KEPT {
            self.kept.extend([line.as_bytes(), b"\n"].concat());
            self.num_kept += 1;
        } else {
            self.num_lost += 1;
        }
        let had_failed = self.failure.is_some();
        match self.write_kept() {
            Ok(()) => {
                self.failure = None;
                Ok(())
            }
            Err(error) => {
                let again = copy_of(&error);
                self.failure = Some(error);
                if had_failed { Ok(()) } else { Err(again) }
            }
        }
    }

    /// Writes all that is kept, or nothing of it.
    fn write_kept(&mut self) -> io::Result<()> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let before = sink.len();
        let written = sink.write_all(&self.kept).and_then(|()| sink.flush());
        if let Err(error) = written {
            // Half a line is none. Without the lock it might be another run's line that is cut off.
            if self.is_locked
                && let Ok(before) = before
            {
                let _ = sink.truncate(before);
            } else if self.place.is_some() {
                self.kept.splice(..0, *b"\n");
            }
            return Err(error);
        }
        self.kept.clear();
        self.num_kept = 0;
        Ok(())
    }

    /// Ends it; lines that its place does not take in the end go to another.
    ///
    /// # Errors
    ///
    /// No place takes them.
    pub fn finish(mut self) -> Result<Saved, NotSaved> {
        if self.is_removed() {
            return self.save_removed();
        }
        let mut written = self.write_kept_lines();
        if written.is_ok()
            && let Some(sink) = &self.sink
        {
            written = sink.sync();
        }
        let lost = self.num_lost;
        let Err(error) = written else {
            return match lost {
                0 => Ok(Saved::at(&self.path)),
                lost => Err(NotSaved::new(
                    &self.path,
                    io::Error::other(format!("{lost} lines did not fit into memory")),
                )),
            };
        };
        let kept = std::mem::take(&mut self.kept);
        if let Some(place) = &self.place
            && self.num_kept > 0
        {
            let open = || Ok(Box::new(io::Cursor::new(kept.clone())) as Box<dyn Read>);
            if let Ok(elsewhere) = write_elsewhere(place, open) {
                return Ok(Saved::instead(elsewhere, &self.path, &error));
            }
        }
        Err(NotSaved::new(&self.path, error))
    }

    /// Whether the file has no name any more: what is in it would be gone with the process.
    fn is_removed(&self) -> bool {
        let file = self.place.as_ref().and(self.sink.as_ref());
        file.is_some_and(|sink| num_names(sink.file()) == Some(0))
    }

    /// Writes all that is in a removed file to one that is not, and what was kept behind it.
    fn save_removed(mut self) -> Result<Saved, NotSaved> {
        let error = io::Error::new(io::ErrorKind::NotFound, "it was removed");
        let kept = std::mem::take(&mut self.kept);
        let (Some(place), Some(sink)) = (self.place.clone(), self.sink.take()) else {
            return Err(NotSaved::new(&self.path, error));
        };
        let open = || {
            let mut file = sink.file().try_clone()?;
            file.seek(SeekFrom::Start(0))?;
            Ok(Box::new(file.chain(io::Cursor::new(kept.clone()))) as Box<dyn Read>)
        };
        match write_elsewhere(&place, open) {
            Ok(elsewhere) if elsewhere == place => Ok(Saved::at(&self.path)),
            Ok(elsewhere) => Ok(Saved::instead(elsewhere, &self.path, &error)),
            Err(_) => Err(NotSaved::new(&self.path, error)),
        }
    }

    fn write_kept_lines(&mut self) -> io::Result<()> {
        match self.num_kept {
            0 => Ok(()),
            _ => self.write_kept(),
        }
    }

    /// Number of lines that wait to be written.
    pub fn num_kept(&self) -> u64 {
        self.num_kept
    }
}

#[cfg(unix)]
fn num_names(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().ok().map(|metadata| metadata.nlink())
}

#[cfg(not(unix))]
fn num_names(_: &File) -> Option<u64> {
    None
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        // A run that is refused leaves nothing where nothing was.
        if self.is_new
            && self.is_locked
            && let (Some(place), Some(sink)) = (&self.place, &self.sink)
            && sink.len().is_ok_and(|len| len == 0)
        {
            let _ = fs::remove_file(place);
        }
    }
}
