//! Certificates of plans, as files.

use std::path::Path;

use crate::{InputError, source};

/// What a certificate's file holds, or stdin for `-`, and what to call it in errors.
///
/// # Errors
///
/// It can't be read.
pub fn read_certificate(path: &Path) -> Result<(Vec<u8>, String), InputError> {
    source::read("certificate", path)
}
