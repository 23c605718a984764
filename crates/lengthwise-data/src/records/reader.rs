//! The records of one file.

use std::fmt;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use super::json_lines::JsonLines;
use super::parquet::ParquetRows;
use super::text::TextFile;
use super::{CorruptRows, Fields, FileForm, Packing, Record, SkippedRows, file_form};
use crate::DataError;

/// The records of one file, in order. After an error there are no more.
///
/// ```
/// use lengthwise_data::records::{Content, CorruptRows, Fields, RecordReader};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("corpus.jsonl");
/// # std::fs::write(&path, "{\"body\": \"one\"}\n{\"body\": 2}\n{\"body\": \"three\"}\n")?;
/// let fields = Fields::Text("body".to_owned());
/// let mut reader = RecordReader::open(&path, &fields, CorruptRows::Skip)?;
/// let texts: Result<Vec<_>, _> = reader.by_ref().map(|record| Ok::<_, lengthwise_data::DataError>(record?.content)).collect();
/// assert_eq!(texts?, [Content::Text(b"one".into()), Content::Text(b"three".into())]);
/// assert_eq!(reader.skipped().num_rows(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordReader {
    rows: Box<dyn Iterator<Item = Result<Record, DataError>> + Send>,
    corrupt: CorruptRows,
    skipped: Arc<SkippedRows>,
    has_ended: bool,
}

impl RecordReader {
    /// Opens a file, whose form its name tells.
    ///
    /// # Errors
    ///
    /// It can't be read, is not of its form, or has no column of the fields' names.
    pub fn open(path: &Path, fields: &Fields, corrupt: CorruptRows) -> Result<Self, DataError> {
        file_form::check(path)?;
        let rows: Box<dyn Iterator<Item = _> + Send> = match FileForm::of(path) {
            (FileForm::JsonLines, packing) => {
                Box::new(JsonLines::open(path, packing, fields.clone())?)
            }
            (FileForm::Parquet, Packing::Plain) => Box::new(ParquetRows::open(path, fields)?),
            (FileForm::Parquet, packing) => {
                return Err(DataError::PackedTable {
                    path: path.to_owned(),
                    ending: packing.ending().unwrap_or_default(),
                });
            }
            (FileForm::Text, packing) => {
                if fields.is_masked() {
                    return Err(DataError::TextWithoutFields {
                        path: path.to_owned(),
                        wanted: fields.to_string(),
                    });
                }
                Box::new(TextFile::open(path, packing)?)
            }
        };
        Ok(Self::new(rows, corrupt))
    }

    /// The records of lines that are in no file; `name` stands for it in errors.
    pub fn of_lines(
        name: &Path,
        lines: Box<dyn BufRead + Send>,
        fields: &Fields,
        corrupt: CorruptRows,
    ) -> Self {
        let rows = JsonLines::new(name, Packing::Plain, fields.clone(), lines);
        Self::new(Box::new(rows), corrupt)
    }

    fn new(
        rows: Box<dyn Iterator<Item = Result<Record, DataError>> + Send>,
        corrupt: CorruptRows,
    ) -> Self {
        RecordReader {
            rows,
            corrupt,
            skipped: Arc::default(),
            has_ended: false,
        }
    }

    /// The same, counting what it skips together with others.
    #[must_use]
    pub fn counting(mut self, skipped: &Arc<SkippedRows>) -> Self {
        self.skipped = Arc::clone(skipped);
        self
    }

    /// Rows that were skipped so far.
    pub fn skipped(&self) -> &SkippedRows {
        &self.skipped
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_ended {
            let row = self.rows.next();
            match row {
                Some(Err(error)) if error.is_of_a_row() && self.corrupt == CorruptRows::Skip => {
                    self.skipped.count(error);
                }
                Some(Ok(record)) => return Some(Ok(record)),
                other => {
                    self.has_ended = true;
                    return other;
                }
            }
        }
        None
    }
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader")
            .field("corrupt", &self.corrupt)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
