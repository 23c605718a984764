//! Files that users name, or what they pipe in.

use std::path::Path;

use lengthwise_cost::text_file::{read_bytes, read_file};

use crate::InputError;

/// The name of a file in errors; stdin for `-`.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What a file holds, or stdin for `-`, and what to call it in errors; `what` it is comes first in the error.
pub(crate) fn read(what: &'static str, path: &Path) -> Result<(Vec<u8>, String), InputError> {
    let name = name(path);
    let read = if is_stdin(path) {
        read_bytes(std::io::stdin().lock())
    } else {
        read_file(path)
    };
    match read {
        Ok(bytes) => Ok((bytes, name)),
        Err(error) => Err(InputError::Unreadable { what, name, error }),
    }
}
