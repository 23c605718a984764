//! Files with one JSON object a line.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::json_fields::content;
use super::lines::{Line, read_line};
use super::record::MOST_RECORD_BYTES;
use super::unpacked::{open, unpack_error};
use super::{Fields, Packing, Record};
use crate::DataError;

/// Some editors begin a file with it, to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The records of a file with one JSON object a line. Blank lines hold none.
pub(crate) struct JsonLines {
    path: PathBuf,
    packing: Packing,
    fields: Fields,
    stream: Box<dyn BufRead + Send>,
    most_bytes: usize,
    num_lines: u64,
    buffer: Vec<u8>,
}

impl JsonLines {
    pub(crate) fn open(path: &Path, packing: Packing, fields: Fields) -> Result<Self, DataError> {
        let stream = open(path, packing)?;
        Ok(Self::new(path, packing, fields, stream))
    }

    pub(crate) fn new(
        path: &Path,
        packing: Packing,
        fields: Fields,
        stream: Box<dyn BufRead + Send>,
    ) -> Self {
        JsonLines {
            path: path.to_owned(),
            packing,
            fields,
            stream,
            most_bytes: MOST_RECORD_BYTES,
            num_lines: 0,
            buffer: Vec::new(),
        }
    }

    fn bad(&self, reason: String) -> DataError {
        DataError::BadRow {
            place: self.place(),
            reason,
            rule: format!("each line must be {}", self.fields),
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.num_lines)
    }
}

impl Iterator for JsonLines {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = read_line(&mut *self.stream, self.most_bytes, &mut self.buffer);
            let line = match line {
                Ok(Line::End) => return None,
                Ok(line) => line,
                Err(source) => {
                    let (path, packing) = (&self.path, self.packing);
                    return Some(Err(unpack_error(path, packing, self.num_lines, source)));
                }
            };
            self.num_lines += 1;
            if line == Line::TooLong {
                let reason = format!("the line has more than {} bytes", self.most_bytes);
                return Some(Err(self.bad(reason)));
            }
            let mut bytes = &self.buffer[..];
            if self.num_lines == 1 {
                bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            return Some(match content(&self.fields, bytes) {
                Ok(content) => Ok(Record {
                    place: self.place(),
                    content,
                }),
                Err(reason) => Err(self.bad(reason)),
            });
        }
    }
}
