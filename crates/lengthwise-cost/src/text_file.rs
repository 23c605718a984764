//! Files of text that users name, read whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lengthwise_core::limits::FILE_BYTES;

/// The mark that some editors put before a text to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// All that a source holds, without the byte-order mark that may stand before it.
///
/// # Errors
///
/// It can't be read, or it holds more than is read as a whole ([`FILE_BYTES`]), as a device does that never ends.
pub fn read_bytes(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        let rule = format!(
            "it holds more than the {} MiB that are read",
            FILE_BYTES >> 20
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, rule));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// The same of a file.
///
/// # Errors
///
/// As [`read_bytes`].
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bytes(File::open(path)?)
}

/// The text of a file.
///
/// # Errors
///
/// As [`read_bytes`]; or it is no text in UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        let rule = format!("it is not text in UTF-8, from line {line} on");
        io::Error::new(io::ErrorKind::InvalidData, rule)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(read_bytes(&b"\xef\xbb\xbf{}"[..]).unwrap(), b"{}");
        assert_eq!(read_bytes(&b"{}"[..]).unwrap(), b"{}");
    }

    #[test]
    fn what_never_ends_is_refused() {
        let error = read_bytes(io::repeat(0)).unwrap_err().to_string();
        assert_eq!(error, "it holds more than the 256 MiB that are read");
    }

    #[test]
    fn what_is_no_text_is_named_by_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a\n\xff").unwrap();
        let error = read_text(file.path()).unwrap_err().to_string();
        assert_eq!(error, "it is not text in UTF-8, from line 2 on");
    }
}
