//! Any bytes as JSONL: each line that is not blank is a record or a corrupt row, and nothing panics.
//!
//! `cargo +nightly fuzz run jsonl`

#![no_main]

use std::io::Cursor;
use std::path::Path;

use lengthwise_data::records::{CorruptRows, Fields, RecordReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (kind, bytes) = input;
    let name = |name: &str| name.to_owned();
    let fields = match kind % 3 {
        0 => Fields::default(),
        1 => Fields::Completion {
            prompt: name("prompt"),
            completion: name("completion"),
        },
        _ => Fields::Messages {
            messages: name("messages"),
            tools: name("tools"),
        },
    };
    let reader = |corrupt| {
        let lines = Box::new(Cursor::new(bytes.clone()));
        RecordReader::of_lines(Path::new("fuzzed.jsonl"), lines, &fields, corrupt)
    };
    let mut skipping = reader(CorruptRows::Skip);
    let records: Vec<_> = skipping
        .by_ref()
        .map(|record| record.expect("no line is torn"))
        .collect();
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let num_lines = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .count();
    assert_eq!(
        records.len() as u64 + skipping.skipped().num_rows(),
        num_lines as u64
    );
    // Up to the first corrupt row both find the same.
    let strict: Vec<_> = reader(CorruptRows::Error).collect();
    for (found, expected) in strict.iter().zip(&records) {
        assert!(found.as_ref().is_err() || found.as_ref().is_ok_and(|record| record == expected));
    }
    let num_errors = strict.iter().filter(|record| record.is_err()).count();
    assert_eq!(num_errors, usize::from(skipping.skipped().num_rows() > 0));
});
