//! Identity of a file, the same by whatever paths and links it is reached.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file: its device and inode where it is there, or else where it would be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileIdentity {
    /// A file that is there.
    #[cfg(unix)]
    Node {
        /// Of its file system.
        device: u64,
        /// Its number there, which all hard links to it have.
        inode: u64,
    },
    /// A file that would be created here, behind all links; or one that is there, where files have no inode.
    Place(PathBuf),
}

impl FileIdentity {
    /// Of the file that a path leads to, or that would be created there.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(metadata) => Self::of_metadata(path, &metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(FileIdentity::Place(resolved(path)?))
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(unix)]
    pub(crate) fn of_metadata(_: &Path, metadata: &fs::Metadata) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        Ok(FileIdentity::Node {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn of_metadata(path: &Path, _: &fs::Metadata) -> io::Result<Self> {
        path.canonicalize().map(FileIdentity::Place)
    }
}

/// Longest chain of symbolic links that is followed, as on Linux.
const MOST_LINKS: usize = 40;

/// Returns the path at which a file is or would be created, behind all links.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(there) = path.canonicalize() {
            return Ok(there);
        }
        let directory = directory_of(&path);
        match fs::read_link(&path) {
            // A link to a file that is not there.
            Ok(leads_to) => path = directory.join(leads_to),
            Err(_) => {
                let name = path.file_name();
                let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                return Ok(directory.canonicalize()?.join(name));
            }
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
