//! Files with one JSON object a line, whose `text` is a document.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::DataError;
use crate::landmarks::Landmarks;
use crate::records::object_text;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// Where a document is in its file.
#[derive(Debug)]
pub(crate) struct LinePlace {
    /// Counted from 1.
    pub line: u64,
    /// Where the line starts.
    pub offset: u64,
    /// How long it is, with its line break.
    pub num_line_bytes: u64,
    /// How long its text is.
    pub num_text_bytes: u64,
    /// Checksum of its text.
    pub text_crc32: u32,
    /// Where the parts of a long text are.
    pub landmarks: Option<Box<Landmarks>>,
}

/// Some editors begin a file with it, to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Finds the documents of an open file, checking every line. Blank lines hold none.
pub(crate) fn index(path: &Path, file: &File) -> Result<Vec<LinePlace>, DataError> {
    let read_error = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut places = Vec::new();
    let (mut line, mut offset) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let mut num_line_bytes = reader.read_until(b'\n', &mut bytes).map_err(read_error)? as u64;
        if num_line_bytes == 0 {
            return Ok(places);
        }
        line += 1;
        if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
            offset += BYTE_ORDER_MARK.len() as u64;
            num_line_bytes -= BYTE_ORDER_MARK.len() as u64;
        }
        if !bytes.trim_ascii().is_empty() {
            let found = text(path, line, &bytes)?;
            let num_text_bytes = found.len() as u64;
            places.push(LinePlace {
                line,
                offset,
                num_line_bytes,
                num_text_bytes,
                text_crc32: crc32fast::hash(found.as_bytes()),
                landmarks: Landmarks::of(&bytes, num_text_bytes).map(Box::new),
            });
        }
        offset += num_line_bytes;
    }
}

/// The document that a line holds.
pub(crate) fn text<'a>(path: &Path, line: u64, bytes: &'a [u8]) -> Result<Cow<'a, str>, DataError> {
    let bad = |reason: String| DataError::BadLine {
        path: path.to_owned(),
        line,
        reason,
    };
    let object = object_text(bytes).map_err(bad)?;
    let parsed: Result<Line<'a>, serde_json::Error> = serde_json::from_str(object);
    parsed.map(|line| line.text).map_err(|error| {
        // The parser counts lines from the start of what it was given: this line.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        bad(format!("{reason} (column {})", error.column()))
    })
}

/// The text that a part of a line's string holds, taken at [`Landmarks`]; none if it holds no text any more.
pub(crate) fn part(string_bytes: &[u8]) -> Option<String> {
    let quoted = [b"\"", string_bytes, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn documents_are_found_line_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "{\"text\": \"caf\\u00e9\", \"id\": 7}\n\n{\"text\":\"\"}\r\n{\"text\":\"x\"}",
        )
        .unwrap();
        let places = index(file.path(), file.as_file()).unwrap();
        let found: Vec<_> = places
            .iter()
            .map(|place| (place.line, place.num_text_bytes))
            .collect();
        assert_eq!(found, [(1, 5), (3, 0), (4, 1)]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_document() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "a".repeat(20_000);
        fs::write(file.path(), format!("\u{feff}{{\"text\":\"{long}\"}}\n")).unwrap();
        let places = index(file.path(), file.as_file()).unwrap();
        assert_eq!((places[0].offset, places[0].num_text_bytes), (3, 20_000));
        assert!(places[0].landmarks.is_some());
    }

    #[test]
    fn a_line_is_utf8_in_fields_that_are_not_read_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"{\"text\": \"a\", \"from\": \"caf\xe9\"}\n").unwrap();
        let error = index(file.path(), file.as_file()).unwrap_err().to_string();
        assert!(
            error.contains("byte 27 of the line is not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_line_that_is_no_document_is_named() {
        let lines = [
            "not json",
            r#"["x"]"#,
            r#"{"body": "x"}"#,
            r#"{"text": 7}"#,
            r#"{"text": "a", "text": "b"}"#,
            r#"{"text": "x"} trailing"#,
            r#"{"text": "unfinished"#,
        ];
        let messages = lines.map(|line| {
            text(Path::new("corpus.jsonl"), 3, line.as_bytes())
                .unwrap_err()
                .to_string()
        });
        insta::assert_snapshot!(messages.join("\n"), @r"
        corpus.jsonl:3: this is no JSON object; each line must be an object with a string `text`
        corpus.jsonl:3: this is no JSON object; each line must be an object with a string `text`
        corpus.jsonl:3: missing field `text` (column 13); each line must be an object with a string `text`
        corpus.jsonl:3: invalid type: integer `7`, expected a string (column 10); each line must be an object with a string `text`
        corpus.jsonl:3: duplicate field `text` (column 20); each line must be an object with a string `text`
        corpus.jsonl:3: trailing characters (column 15); each line must be an object with a string `text`
        corpus.jsonl:3: EOF while parsing a string (column 20); each line must be an object with a string `text`
        ");
    }
}
