//! Files of records, as tests write them.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use lengthwise_data::DataError;
use lengthwise_data::records::{Content, CorruptRows, Fields, Record, RecordReader};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Bytes as gzip packs them.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes as zstd packs them.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// How a table is written.
#[derive(Clone, Copy, Debug)]
pub struct TableForm {
    pub compression: Compression,
    pub dictionary: bool,
    pub second_version: bool,
    pub rows_per_group: usize,
}

impl TableForm {
    /// Every way that is read.
    pub fn all() -> Vec<Self> {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let gzip = Compression::GZIP(GzipLevel::default());
        let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, zstd];
        let mut all = Vec::new();
        for compression in compressions {
            for dictionary in [false, true] {
                for second_version in [false, true] {
                    all.push(TableForm {
                        compression,
                        dictionary,
                        second_version,
                        rows_per_group: 100,
                    });
                }
            }
        }
        all
    }
}

/// Writes a table with a column `id` and an optional column `text`.
pub fn write_table(path: &Path, texts: &[Option<&[u8]>], form: TableForm) {
    let schema = "message table { required int64 id; optional binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let version = match form.second_version {
        true => parquet::file::properties::WriterVersion::PARQUET_2_0,
        false => parquet::file::properties::WriterVersion::PARQUET_1_0,
    };
    let properties = WriterProperties::builder()
        .set_compression(form.compression)
        .set_dictionary_enabled(form.dictionary)
        .set_writer_version(version)
        .set_data_page_row_count_limit(40)
        .set_write_batch_size(20)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in texts.chunks(form.rows_per_group) {
        let mut group_writer = writer.next_row_group().unwrap();
        let mut column = group_writer.next_column().unwrap().unwrap();
        let ids: Vec<i64> = (0..group.len() as i64).collect();
        column
            .typed::<parquet::data_type::Int64Type>()
            .write_batch(&ids, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group_writer.next_column().unwrap().unwrap();
        let levels: Vec<i16> = group.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> = group
            .iter()
            .flatten()
            .map(|text| ByteArray::from(text.to_vec()))
            .collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        group_writer.close().unwrap();
    }
    writer.close().unwrap();
}

/// A field `text`.
pub fn text() -> Fields {
    Fields::default()
}

/// The fields of prompts and completions.
pub fn completion() -> Fields {
    Fields::Completion {
        prompt: "prompt".to_owned(),
        completion: "completion".to_owned(),
    }
}

/// The fields of conversations.
pub fn messages() -> Fields {
    Fields::Messages {
        messages: "messages".to_owned(),
        tools: "tools".to_owned(),
    }
}

/// All records of a file with these bytes.
pub fn read_bytes(
    name: &str,
    bytes: &[u8],
    fields: &Fields,
    corrupt: CorruptRows,
) -> Result<Vec<Record>, DataError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path, fields, corrupt)
}

/// All records of a file.
pub fn read(path: &Path, fields: &Fields, corrupt: CorruptRows) -> Result<Vec<Record>, DataError> {
    RecordReader::open(path, fields, corrupt)?.collect()
}

/// The texts of records.
pub fn texts(records: &[Record]) -> Vec<&[u8]> {
    records
        .iter()
        .map(|record| match &record.content {
            Content::Text(text) => text.as_slice(),
            other => panic!("{other:?} is no text"),
        })
        .collect()
}

/// A message, as its role and its content.
pub type Message<'a> = (&'a str, Option<&'a str>);

/// The bytes of a table with an optional list of messages a row.
pub fn table_of_messages(rows: &[Option<&[Message<'_>]>]) -> Vec<u8> {
    let schema = "message table { optional group messages (LIST) { repeated group list { optional group element { \
                  optional binary role (UTF8); optional binary content (UTF8); } } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for of_content in [false, true] {
        let (mut levels, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let messages = row.unwrap_or_default();
            if messages.is_empty() {
                levels.push(i16::from(row.is_some()));
                repetitions.push(0);
            }
            for (index, (role, content)) in messages.iter().enumerate() {
                let value = if of_content { *content } else { Some(*role) };
                levels.push(if value.is_some() { 4 } else { 3 });
                repetitions.push(i16::from(index > 0));
                values.extend(value.map(ByteArray::from));
            }
        }
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&levels), Some(&repetitions))
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}
