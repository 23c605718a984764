//! Parquet files that are torn or changed: an error each, and never a panic.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;

use std::fs;

use common::{TableForm, messages, read_bytes, text, write_table};
use lengthwise_data::records::{CorruptRows, Fields};
use parquet::basic::Compression;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

fn table(form: TableForm) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    let rows: Vec<String> = (0..150)
        .map(|row| format!("text of row {}", row % 30))
        .collect();
    let mut cells: Vec<Option<&[u8]>> = rows.iter().map(|row| Some(row.as_bytes())).collect();
    cells[3] = None;
    write_table(&path, &cells, form);
    fs::read(path).unwrap()
}

/// A table with lists of objects.
fn table_of_messages() -> Vec<u8> {
    common::table_of_messages(&[
        Some(&[("user", Some("question")), ("assistant", Some("answer"))]),
        Some(&[("user", Some("second"))]),
        Some(&[
            ("user", Some("a")),
            ("assistant", None),
            ("user", Some("b")),
        ]),
    ])
}

/// The result of reading a file of these bytes.
fn outcome(bytes: &[u8], fields: &Fields) -> Result<usize, String> {
    let records = read_bytes("a.parquet", bytes, fields, CorruptRows::Skip);
    records.map(|records| records.len()).map_err(|error| {
        assert!(error.hint().is_some(), "{error}");
        let error = error.to_string();
        error[error.find("a.parquet").unwrap_or(0)..].to_owned()
    })
}

/// Where the first page of the texts is.
fn first_page(bytes: &[u8]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let reader = SerializedFileReader::new(fs::File::open(file.path()).unwrap()).unwrap();
    let column = reader.metadata().row_group(0).column(1);
    column.data_page_offset() as usize
}

#[test]
fn torn_tables_are_errors() {
    let form = TableForm {
        compression: Compression::SNAPPY,
        dictionary: false,
        second_version: false,
        rows_per_group: 100,
    };
    let whole = table(form);
    assert_eq!(outcome(&whole, &text()), Ok(149));
    let len = whole.len();
    let page = first_page(&whole);
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let footer = |num_bytes: u32| {
        let mut bytes = whole.clone();
        bytes[len - 8..len - 4].copy_from_slice(&num_bytes.to_le_bytes());
        bytes
    };
    let without = |range: std::ops::Range<usize>| {
        let mut bytes = whole.clone();
        bytes.drain(range);
        bytes
    };
    let cases = [
        ("empty", Vec::new()),
        ("text", b"{\"text\": \"x\"}\n".to_vec()),
        ("only the signature", b"PAR1".to_vec()),
        ("signatures and no footer", b"PAR1PAR1".to_vec()),
        ("without the last byte", whole[..len - 1].to_vec()),
        ("without the last signature", whole[..len - 4].to_vec()),
        ("half", whole[..len / 2].to_vec()),
        ("a footer of no bytes", footer(0)),
        ("a footer of one byte", footer(1)),
        ("a footer as long as the file", footer(len as u32)),
        ("a footer of 4 GiB", footer(u32::MAX)),
        (
            "an encrypted footer",
            [&whole[..len - 4], b"PARE".as_slice()].concat(),
        ),
        ("a changed footer", changed(len - 40, 0xff)),
        ("a page's header changed", changed(page, 0xff)),
        ("a page's lengths changed", changed(page + 3, 0xff)),
        ("pages moved by a byte", without(4..5)),
        ("pages left out", without(4..page + 20)),
    ];
    let said = cases.map(|(what, bytes)| match outcome(&bytes, &text()) {
        Err(error) => format!("{what}: {error}"),
        Ok(num_rows) => panic!("{what}: {num_rows} rows"),
    });
    insta::assert_snapshot!(said.join("\n"));
}

/// Bytes of a file, of which the last place like `found` is written over.
fn written_over(mut bytes: Vec<u8>, found: &[u8], with: &[u8]) -> Vec<u8> {
    let mut places = bytes.windows(found.len());
    let at = places.rposition(|place| place == found).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn pages_that_say_they_have_more_than_they_can_hold_take_no_memory_for_it() {
    let form = |dictionary: bool| TableForm {
        compression: Compression::UNCOMPRESSED,
        dictionary,
        second_version: true,
        rows_per_group: 100,
    };
    // Blocks of 128 lengths in 4 parts: 10 lengths, or 2^35 - 1.
    let lengths = written_over(
        table(form(false)),
        &[0x80, 0x01, 4, 10],
        &[0x80, 0x01, 4, 0xff, 0xff, 0xff, 0xff, 0x7f],
    );
    // The header of a dictionary of one string, which is empty: 1 value, or 63, which need 4 bytes each.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    write_table(&path, &[Some(b""), Some(b"")], form(true));
    let strings = written_over(fs::read(path).unwrap(), &[0x15, 2, 0x15], &[0x15, 2 * 63]);
    let said = [lengths, strings].map(|bytes| outcome(&bytes, &text()).unwrap_err());
    insta::assert_snapshot!(said.join("\n"), @"
    a.parquet:101: this is no whole Parquet file: a page of 10 values says it has the lengths of 34359738367
    a.parquet:1: this is no whole Parquet file: a page says it has 63 values, more than the 1 its bytes can hold
    ");
}

fn any_form() -> impl Strategy<Value = TableForm> {
    prop::sample::select(TableForm::all())
}

/// Bytes that are put into a file: at a place, counted from its end where it is negative.
fn any_change() -> impl Strategy<Value = (i64, Vec<u8>, bool)> {
    let place = prop_oneof![-700i64..0, 0i64..6000];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            vec![0xff; 5],
            vec![0; 8],
            vec![0x7f, 0xff, 0xff, 0xff],
            vec![0x80]
        ]),
    ];
    (place, bytes, any::<bool>())
}

fn change(bytes: &mut Vec<u8>, (place, with, inserted): &(i64, Vec<u8>, bool)) {
    let len = bytes.len() as i64;
    let at = if *place < 0 {
        (len + place).max(0)
    } else {
        place % len.max(1)
    } as usize;
    let end = if *inserted {
        at
    } else {
        (at + with.len()).min(bytes.len())
    };
    bytes.splice(at..end, with.iter().copied());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500),
        ..ProptestConfig::default()
    })]

    #[test]
    fn changed_tables_give_rows_or_an_error(
        form in any_form(),
        changes in prop::collection::vec(any_change(), 1..4),
        keeps in prop::option::of(any::<prop::sample::Index>()),
        of_messages in any::<bool>(),
    ) {
        let (mut bytes, fields) = match of_messages {
            true => (table_of_messages(), messages()),
            false => (table(form), text()),
        };
        for one in &changes {
            change(&mut bytes, one);
        }
        if let Some(keeps) = keeps {
            bytes.truncate(keeps.index(bytes.len() + 1));
        }
        // Whatever it is: no panic, and an error that says where.
        if let Err(error) = outcome(&bytes, &fields) {
            prop_assert!(error.starts_with("a.parquet"), "{}", error);
        }
    }
}
