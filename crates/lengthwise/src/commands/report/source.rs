//! Files that a report is made of.

use std::path::Path;

use lengthwise_cost::text_file::read_file;

use crate::failure::Failure;

/// The text of a file.
pub(super) fn read(path: &Path, what: &str) -> Result<String, Failure> {
    let bytes = read_bytes(path, what)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::input(format!("{what} {} is not text in UTF-8", path.display())))
}

/// The bytes of a file.
pub(super) fn read_bytes(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    read_file(path).map_err(|error| {
        Failure::input(format!("{what} {} can't be read: {error}", path.display()))
    })
}

/// The name of a file without its last ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
