//! The streams that a process is born with.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::faults;

/// Standard output, for results.
pub fn output() -> impl Write + Send {
    Stream(io::stdout(), Path::new("<stdout>"))
}

/// Standard error, for everything about a run.
pub fn notes() -> impl Write + Send {
    Stream(io::stderr(), Path::new("<stderr>"))
}

/// Whether somebody watches the results.
pub fn output_is_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether somebody watches what is said about the run.
pub fn notes_are_on_terminal() -> bool {
    io::stderr().is_terminal()
}

struct Stream<W>(W, &'static Path);

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let allowed = faults::before_write(self.1, bytes.len())?;
        self.0.write(&bytes[..allowed])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The stream that a path stands for, if it is one: opened by name, it would begin at its own beginning, and write over
/// what others have written to it.
#[cfg(unix)]
pub(crate) fn opened(path: &Path) -> Option<io::Result<File>> {
    use std::os::fd::AsFd;
    let copy = match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => {
            io::stdout().as_fd().try_clone_to_owned()
        }
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => {
            io::stderr().as_fd().try_clone_to_owned()
        }
        _ => return None,
    };
    Some(copy.map(File::from))
}

#[cfg(not(unix))]
pub(crate) fn opened(_: &Path) -> Option<io::Result<File>> {
    None
}

/// The file, pipe or terminal behind stdin.
#[cfg(unix)]
pub(crate) fn input() -> Option<File> {
    use std::os::fd::AsFd;
    let copy = io::stdin().as_fd().try_clone_to_owned();
    copy.ok().map(File::from)
}

#[cfg(not(unix))]
pub(crate) fn input() -> Option<File> {
    None
}

/// The files, pipes or terminals behind stdout and stderr, each with its name.
#[cfg(unix)]
pub(crate) fn redirected() -> impl Iterator<Item = (&'static str, File)> {
    let streams = [("stdout", "/dev/stdout"), ("stderr", "/dev/stderr")];
    let opened = streams.map(|(name, path)| Some((name, opened(Path::new(path))?.ok()?)));
    opened.into_iter().flatten()
}

#[cfg(not(unix))]
pub(crate) fn redirected() -> impl Iterator<Item = (&'static str, File)> {
    std::iter::empty()
}
