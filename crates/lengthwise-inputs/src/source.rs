//! Files that users name, or what they pipe in.

use std::io::Read;
use std::path::Path;

use crate::InputError;

/// What a file is called in errors; stdin for `-`.
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
    let is_stdin = is_stdin(path);
    let name = name(path);
    let mut bytes = Vec::new();
    let read = if is_stdin {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    match read {
        Ok(()) => Ok((bytes, name)),
        Err(error) => Err(InputError::Unreadable { what, name, error }),
    }
}
