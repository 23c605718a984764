//! Small files, read as a whole.

use std::fs;
use std::io;
use std::path::Path;

use crate::DataError;

/// What is larger is none of the files that are read as a whole: tokenizers, their settings, what stands beside tokens.
const MOST_BYTES: u64 = 1 << 30;

/// The bytes of a file; none where it is not there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    match read(path) {
        Err(DataError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The bytes of a file. A device, which may have no end, is not begun.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is no file")));
    }
    if metadata.len() > MOST_BYTES {
        let message = format!(
            "it has {} bytes; up to {MOST_BYTES} are read",
            metadata.len()
        );
        return Err(unreadable(io::Error::other(message)));
    }
    fs::read(path).map_err(unreadable)
}
