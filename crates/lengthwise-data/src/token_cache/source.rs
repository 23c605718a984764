//! Records of files, and their encoding as ids.

use std::path::Path;

use crate::records::{Content, Record};
use crate::{DataError, EncodedDocument, RecordEncoder};

/// The records of a file, in order.
pub type Records<'a, R> = Box<dyn Iterator<Item = Result<R, DataError>> + Send + 'a>;

/// The records of files, and the encoding of each as ids. Records are read one after the other and encoded on all
/// cores.
pub trait DocumentSource: Sync {
    /// A record as it is read, before it is encoded.
    type Record: Send;

    /// The same for two sources only if they make the same documents of every file.
    fn fingerprint(&self) -> String;

    /// More than any id of any document.
    fn vocab_size(&self) -> usize;

    /// The id that every document begins with when it is read, if it is not stored.
    fn begins_with(&self) -> Option<u32>;

    /// The records of a file, in order, without all being in memory.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    fn records(&self, path: &Path) -> Result<Records<'_, Self::Record>, DataError>;

    /// The size of a record, roughly.
    fn num_bytes(&self, record: &Self::Record) -> usize;

    /// Row of a record in its file, counted from 1, if the file may have several.
    fn row(&self, path: &Path, record: &Self::Record) -> Option<u64>;

    /// The document that a record is; none where it is skipped.
    ///
    /// # Errors
    ///
    /// It is none, and ends the run.
    fn encode(&self, record: Self::Record) -> Result<Option<EncodedDocument>, DataError>;

    /// Rows of all files that have been skipped so far.
    fn skipped(&self) -> Skipped {
        Skipped::default()
    }
}

/// Rows that were left out since they are broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub num_rows: u64,
    /// The fault of one of them, and its place.
    pub example: Option<String>,
}

/// Conversations take about this much text.
const CHAT_BYTES: usize = 4096;

impl DocumentSource for RecordEncoder {
    type Record = Record;

    fn fingerprint(&self) -> String {
        let (records, ids) = (
            RecordEncoder::fingerprint(self),
            self.encoder().fingerprint(),
        );
        format!("{records}; {ids}")
    }

    fn vocab_size(&self) -> usize {
        self.encoder().vocab_size()
    }

    fn begins_with(&self) -> Option<u32> {
        self.first()
    }

    fn records(&self, path: &Path) -> Result<Records<'_, Record>, DataError> {
        Ok(Box::new(RecordEncoder::records(self, path)?))
    }

    fn num_bytes(&self, record: &Record) -> usize {
        match &record.content {
            Content::Text(text) => text.len(),
            Content::Completion { prompt, completion } => prompt.len() + completion.len(),
            Content::Messages(_) | Content::Continued { .. } => CHAT_BYTES,
        }
    }

    fn row(&self, path: &Path, record: &Record) -> Option<u64> {
        let path = path.display().to_string();
        let row = record.place.strip_prefix(&path)?.strip_prefix(':')?;
        row.parse().ok()
    }

    fn encode(&self, record: Record) -> Result<Option<EncodedDocument>, DataError> {
        RecordEncoder::encode(self, &record)
    }

    fn skipped(&self) -> Skipped {
        let skipped = RecordEncoder::skipped(self);
        Skipped {
            num_rows: skipped.num_rows(),
            example: skipped.example(),
        }
    }
}
