//! Records of files, read one by one: texts, prompts with their completions, or conversations.
//!
//! ```text
//! file form     which form a file has, by how its name ends; how it is packed
//! fields        which fields of a row are meant
//! unpacked      .gz and .zst files, read as what was packed
//! lines         lines of a stream, none longer than a bound
//! text          a file is one record
//! json lines    a line is one
//! json fields   the wanted fields of a JSON object
//! parquet       a row is one
//! corrupt rows  what becomes of rows that are none, and how many there were
//! ```
//!
//! Readers stream: memory grows with the longest record, and with the pages of a Parquet file, never with the file.

mod corrupt_rows;
mod fields;
mod file_form;
mod json_fields;
mod json_lines;
mod lines;
mod parquet;
mod reader;
mod record;
mod text;
mod unpacked;

pub use corrupt_rows::{CorruptRows, SkippedRows};
pub use fields::Fields;
pub use file_form::{FileForm, Packing};
pub(crate) use file_form::{NOT_READ, ends_with};
pub(crate) use json_fields::object_text;
pub use reader::RecordReader;
pub use record::{Chat, Content, Record};
