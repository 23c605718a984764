//! Tables in Parquet, of which a row is a record.
//!
//! Only the columns of the wanted fields are read, page by page, some rows at a time.

mod column;
mod delta;
mod guarded;
mod pages;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use self::column::{Cell, Column};
use self::guarded::guarded;
use super::record::{Chat, MOST_RECORD_BYTES};
use super::{Content, Fields, Record};
use crate::DataError;

/// Rows that are decoded at a time.
const ROWS_AT_ONCE: usize = 64;

/// The records of a table.
pub(crate) struct ParquetRows {
    path: PathBuf,
    fields: Fields,
    file: SerializedFileReader<File>,
    /// As the fields name them; a column that may be missing is none where it is.
    columns: [Option<Column>; 2],
    num_groups_begun: usize,
    num_rows_left: u64,
    decoded: VecDeque<[Option<Cell>; 2]>,
    num_rows_given: u64,
}

impl ParquetRows {
    pub(crate) fn open(path: &Path, fields: &Fields) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file =
            guarded(|| SerializedFileReader::new(file)).map_err(|error| DataError::Table {
                place: path.display().to_string(),
                reason: reason(error),
            })?;
        let names = fields.names();
        let column = |index: usize, is_needed: bool| match names[index] {
            None => Ok(None),
            Some(name) => {
                let schema = file.metadata().file_metadata().schema_descr();
                let may_be_list = fields.is_masked();
                match Column::find(schema, name, may_be_list) {
                    Ok(None) if is_needed => Err(DataError::NoColumn {
                        path: path.to_owned(),
                        column: name.to_owned(),
                        columns: column::names(schema),
                    }),
                    Ok(found) => Ok(found),
                    Err(found) => Err(DataError::ColumnType {
                        path: path.to_owned(),
                        column: name.to_owned(),
                        found,
                        wanted: match fields {
                            Fields::Messages { .. } => {
                                "a list of messages with string fields, or a string with their JSON"
                            }
                            Fields::Completion { .. } => {
                                "strings, or lists of messages with string fields"
                            }
                            Fields::Text(_) => "strings",
                        },
                    }),
                }
            }
        };
        for name in names.into_iter().flatten() {
            check_codec(path, &file, name)?;
        }
        Ok(ParquetRows {
            columns: [column(0, true)?, column(1, fields.needs_second())?],
            path: path.to_owned(),
            fields: fields.clone(),
            file,
            num_groups_begun: 0,
            num_rows_left: 0,
            decoded: VecDeque::new(),
            num_rows_given: 0,
        })
    }

    /// Decodes the next rows; whether there are any.
    fn decode(&mut self) -> Result<bool, ParquetError> {
        while self.num_rows_left == 0 {
            if self.num_groups_begun == self.file.num_row_groups() {
                return Ok(false);
            }
            let group = self.file.get_row_group(self.num_groups_begun)?;
            let num_rows = group.metadata().num_rows();
            self.num_rows_left = u64::try_from(num_rows).map_err(|_| {
                ParquetError::General(format!("a row group says it has {num_rows} rows"))
            })?;
            for column in self.columns.iter_mut().flatten() {
                column.begin(&*group)?;
            }
            self.num_groups_begun += 1;
        }
        let num_rows = self.num_rows_left.min(ROWS_AT_ONCE as u64) as usize;
        let mut rows: VecDeque<[Option<Cell>; 2]> = (0..num_rows).map(|_| [None, None]).collect();
        for (index, column) in self.columns.iter_mut().enumerate() {
            if let Some(column) = column {
                for (row, cell) in rows.iter_mut().zip(column.read(num_rows)?) {
                    row[index] = Some(cell);
                }
            }
        }
        self.num_rows_left -= num_rows as u64;
        self.decoded = rows;
        Ok(true)
    }

    fn content(&self, [first, second]: [Option<Cell>; 2]) -> Result<Content, String> {
        let names = self.fields.names();
        let name = |index: usize| names[index].unwrap_or_default();
        Ok(match &self.fields {
            Fields::Text(_) => Content::Text(bytes(name(0), first)?),
            Fields::Completion { .. } => match (first, second) {
                (Some(Cell::List(prompt)), Some(Cell::List(completion))) => {
                    Chat::continued(prompt?, completion?)?
                }
                (prompt, completion) => Content::Completion {
                    prompt: string(name(0), bytes(name(0), prompt)?)?,
                    completion: string(name(1), bytes(name(1), completion)?)?,
                },
            },
            Fields::Messages { .. } => {
                let tools = match second {
                    None | Some(Cell::Null) => None,
                    Some(Cell::List(tools)) => Some(tools?),
                    tools => Some(Chat::list_from_json(
                        "tools",
                        &string(name(1), bytes(name(1), tools)?)?,
                    )?),
                };
                let messages = match first {
                    Some(Cell::List(messages)) => messages?,
                    messages => Chat::list_from_json(
                        "messages",
                        &string(name(0), bytes(name(0), messages)?)?,
                    )?,
                };
                Content::Messages(Chat::new(messages, tools)?)
            }
        })
    }
}

/// Refuses a column whose pages are packed in a way that is not read.
fn check_codec(
    path: &Path,
    file: &SerializedFileReader<File>,
    column: &str,
) -> Result<(), DataError> {
    let groups = file.metadata().row_groups().iter();
    let leaves = groups.flat_map(|group| group.columns());
    let of_column = leaves.filter(|leaf| {
        let parts = leaf.column_path().parts();
        parts.first().is_some_and(|first| first == column)
    });
    for leaf in of_column {
        match leaf.compression() {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::ZSTD(_) => {}
            other => {
                let codec = other.to_string();
                return Err(DataError::TableCodec {
                    path: path.to_owned(),
                    column: column.to_owned(),
                    codec: codec.split('(').next().unwrap_or_default().to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn bytes(name: &str, cell: Option<Cell>) -> Result<Vec<u8>, String> {
    match cell {
        Some(Cell::Bytes(bytes)) if bytes.len() > MOST_RECORD_BYTES => {
            let len = bytes.len();
            Err(format!(
                "`{name}` has {len} bytes, more than {MOST_RECORD_BYTES}"
            ))
        }
        Some(Cell::Bytes(bytes)) => Ok(bytes.data().to_vec()),
        Some(Cell::List(_)) => Err(format!("`{name}` is a list")),
        Some(Cell::Null) | None => Err(format!("`{name}` is null")),
    }
}

fn string(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        format!("byte {at} of `{name}` is not UTF-8")
    })
}

/// Returns the library's message, without the name of its own error.
fn reason(error: ParquetError) -> String {
    match error {
        ParquetError::General(message) | ParquetError::EOF(message) => message,
        ParquetError::NYI(message) => format!("not supported: {message}"),
        error => error.to_string(),
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.decoded.is_empty() {
            match guarded(|| self.decode()) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    return Some(Err(DataError::Table {
                        place: format!("{}:{}", self.path.display(), self.num_rows_given + 1),
                        reason: reason(error),
                    }));
                }
            }
        }
        let row = self.decoded.pop_front()?;
        self.num_rows_given += 1;
        let place = format!("{}:{}", self.path.display(), self.num_rows_given);
        Some(match self.content(row) {
            Ok(content) => Ok(Record { place, content }),
            Err(reason) => Err(DataError::BadRow {
                place,
                reason,
                rule: format!("each row must be {}", self.fields),
            }),
        })
    }
}
