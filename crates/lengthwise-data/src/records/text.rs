//! Files that are one text.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::record::MOST_RECORD_BYTES;
use super::unpacked::{open, unpack_error};
use super::{Content, Packing, Record};
use crate::DataError;

/// The one record of a text file.
pub(crate) struct TextFile {
    path: PathBuf,
    packing: Packing,
    stream: Option<Box<dyn BufRead + Send>>,
    most_bytes: usize,
}

impl TextFile {
    pub(crate) fn open(path: &Path, packing: Packing) -> Result<Self, DataError> {
        Ok(TextFile {
            path: path.to_owned(),
            packing,
            stream: Some(open(path, packing)?),
            most_bytes: MOST_RECORD_BYTES,
        })
    }
}

impl Iterator for TextFile {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let stream = self.stream.take()?;
        let mut text = Vec::new();
        // One byte more tells that there is more.
        let read = stream
            .take(self.most_bytes as u64 + 1)
            .read_to_end(&mut text);
        let place = self.path.display().to_string();
        Some(match read {
            Err(source) => Err(unpack_error(&self.path, self.packing, 0, source)),
            Ok(num_bytes) if num_bytes > self.most_bytes => Err(DataError::BadRow {
                place,
                reason: format!("the text has more than {} bytes", self.most_bytes),
                rule: "a text file is one document".to_owned(),
            }),
            Ok(_) => Ok(Record {
                place,
                content: Content::Text(text),
            }),
        })
    }
}
