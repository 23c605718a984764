//! Records are the same however their file is packed, and corrupt ones are one error each.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;

use std::fs;

use common::{
    TableForm, completion, gzip, messages, read, read_bytes, text, texts, write_table, zstd,
};
use lengthwise_data::records::{Content, CorruptRows, Fields, RecordReader};

const LINES: &str =
    "{\"text\": \"one\", \"n\": [1]}\n\n{\"n\": 2, \"text\": \"tw\\u00f6\"}\r\n{\"text\":\"\"}";

#[test]
fn packed_files_have_the_records_of_what_was_packed() {
    let expected = [b"one".as_slice(), "twö".as_bytes(), b""];
    let halves = LINES.as_bytes().split_at(20);
    let packed = [
        ("a.jsonl", LINES.as_bytes().to_vec()),
        ("a.JSONL.gz", gzip(LINES.as_bytes())),
        ("a.jsonl.zst", zstd(LINES.as_bytes())),
        // Members and frames one after another, as `cat` leaves them.
        (
            "b.jsonl.gz",
            [gzip(halves.0), gzip(b""), gzip(halves.1)].concat(),
        ),
        (
            "b.jsonl.zst",
            [zstd(halves.0), zstd(b""), zstd(halves.1)].concat(),
        ),
    ];
    for (name, bytes) in packed {
        let records = read_bytes(name, &bytes, &text(), CorruptRows::Error).unwrap();
        assert_eq!(texts(&records), expected, "{name}");
        let lines = records
            .iter()
            .map(|record| record.place.rsplit(':').next().unwrap());
        assert_eq!(lines.collect::<Vec<_>>(), ["1", "3", "4"], "{name}");
    }
    for (name, bytes) in [
        ("a.txt", b"a\nb\xff".to_vec()),
        ("a.txt.gz", gzip(b"a\nb\xff")),
        ("a.md.zst", zstd(b"a\nb\xff")),
    ] {
        let records = read_bytes(name, &bytes, &text(), CorruptRows::Error).unwrap();
        assert_eq!(texts(&records), [b"a\nb\xff"]);
        assert!(records[0].place.ends_with(name));
    }
}

#[test]
fn fields_have_the_names_that_are_asked_for() {
    let body = Fields::Text("body".to_owned());
    let line = br#"{"text": 1, "body": "b", "prompt": "p", "completion": "c"}"#;
    let records = read_bytes("a.jsonl", line, &body, CorruptRows::Error).unwrap();
    assert_eq!(texts(&records), [b"b"]);
    let records = read_bytes("a.jsonl", line, &completion(), CorruptRows::Error).unwrap();
    let expected = Content::Completion {
        prompt: "p".to_owned(),
        completion: "c".to_owned(),
    };
    assert_eq!(records[0].content, expected);
    // A list in a string is a list.
    let direct = r#"{"messages": [{"role": "user", "content": "x"}], "tools": null}"#;
    let quoted = r#"{"messages": "[{\"role\": \"user\", \"content\": \"x\"}]"}"#;
    let both = format!("{direct}\n{quoted}\n");
    let records = read_bytes("a.jsonl", both.as_bytes(), &messages(), CorruptRows::Error).unwrap();
    assert_eq!(records[0].content, records[1].content);
}

/// Lines that are no records, and what they are read with.
fn bad_lines() -> Vec<(Vec<u8>, Fields)> {
    let deep = format!("{{\"text\": {}1{}}}", "[".repeat(300), "]".repeat(300));
    let of_text: [&[u8]; 14] = [
        b"not json",
        b"[\"x\"]",
        b"{\"body\": \"x\"}",
        b"{\"text\": 7}",
        b"{\"text\": null}",
        b"{\"text\": [\"x\"]}",
        b"{\"text\": \"a\", \"text\": \"b\"}",
        b"{\"text\": \"x\"} trailing",
        b"{\"text\": \"unfinished",
        b"{\"text\": \"caf\xe9\"}",
        b"{\"text\": \"\\ud800\"}",
        b"{\"text\": \"a\tb\"}",
        b"\x00\x00",
        deep.as_bytes(),
    ];
    let of_completion = [
        r#"{"prompt": "a"}"#,
        r#"{"prompt": ["a"], "completion": "b"}"#,
    ];
    let of_messages = [
        r#"{"messages": []}"#,
        r#"{"messages": {"role": "user"}}"#,
        r#"{"messages": ["hello"]}"#,
        r#"{"messages": [{"content": "x"}]}"#,
        r#"{"messages": "[{"}"#,
        r#"{"messages": [{"role": "user"}], "tools": 1}"#,
    ];
    let of_text = of_text.into_iter().map(|line| (line.to_vec(), text()));
    let of_completion = of_completion
        .into_iter()
        .map(|line| (line.into(), completion()));
    let of_messages = of_messages
        .into_iter()
        .map(|line| (line.into(), messages()));
    of_text.chain(of_completion).chain(of_messages).collect()
}

#[test]
fn a_corrupt_line_is_one_error_with_its_place() {
    let good = br#"{"text": "", "prompt": "", "completion": "", "messages": [{"role": "user"}]}"#;
    let mut said = Vec::new();
    for (line, fields) in bad_lines() {
        let bytes = [good, b"\n".as_slice(), &line, b"\n", good].concat();
        let error = read_bytes("a.jsonl", &bytes, &fields, CorruptRows::Error).unwrap_err();
        assert!(error.hint().is_some());
        let error = error.to_string();
        said.push(error[error.find("a.jsonl").unwrap()..].to_owned());
        let records = read_bytes("a.jsonl", &bytes, &fields, CorruptRows::Skip).unwrap();
        assert_eq!(records.len(), 2, "{error}");
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn skipped_lines_are_counted_with_the_first_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"a\"}\n{}\n7\n{\"text\": \"b\"}\n").unwrap();
    let mut reader = RecordReader::open(&path, &text(), CorruptRows::Skip).unwrap();
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 2);
    assert_eq!(reader.skipped().num_rows(), 2);
    let example = reader.skipped().example().unwrap();
    assert!(
        example.contains("a.jsonl:2: there is no field `text`"),
        "{example}"
    );
}

#[test]
fn torn_packed_files_are_errors_that_nothing_skips() {
    let lines: String = (0..20_000)
        .map(|n| format!("{{\"text\": \"{n} {}\"}}\n", n * 7919))
        .collect();
    let mut said = Vec::new();
    for (name, packed) in [
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("a.jsonl.zst", zstd(lines.as_bytes())),
    ] {
        let len = packed.len();
        let mut flipped = packed.clone();
        flipped[len / 2] ^= 0x55;
        let mut bad_sum = packed.clone();
        bad_sum[len - 5] ^= 1;
        let cases = [
            ("empty", Vec::new()),
            ("its first byte", packed[..1].to_vec()),
            ("its header", packed[..6].to_vec()),
            ("half of it", packed[..len / 2].to_vec()),
            ("all but the last byte", packed[..len - 1].to_vec()),
            ("another form", b"{\"text\": \"plain\"}\n".to_vec()),
            ("a changed byte", flipped),
            (
                "rubbish after it",
                [&packed, b"rubbish".as_slice()].concat(),
            ),
        ];
        for (what, bytes) in cases {
            for corrupt in [CorruptRows::Error, CorruptRows::Skip] {
                let read = read_bytes(name, &bytes, &text(), corrupt);
                // zstd without a checksum may unpack a changed byte to another text.
                if what == "a changed byte" && name.ends_with("zst") && read.is_ok() {
                    continue;
                }
                let error = read.expect_err(what);
                let (hint, error) = (error.hint(), error.to_string());
                if corrupt == CorruptRows::Error && what != "a changed byte" {
                    said.push(format!(
                        "{what}: {}",
                        &error[error.find("a.jsonl").unwrap()..]
                    ));
                }
                assert!(hint.is_some(), "{error}");
            }
        }
        let bad_sum = read_bytes(name, &bad_sum, &text(), CorruptRows::Skip);
        assert!(bad_sum.is_err() || name.ends_with("zst"));
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn what_unpacks_to_more_than_memory_is_read_in_parts() {
    // 3 GiB of long blank lines, in 3 MB.
    let line = [" ".repeat(1 << 20), "\n".to_owned()].concat();
    let member = gzip(line.repeat(64).as_bytes());
    let bomb = [member.repeat(48), gzip(b"{\"text\": \"end\"}")].concat();
    let before = resident_bytes();
    let records = read_bytes("bomb.jsonl.gz", &bomb, &text(), CorruptRows::Error).unwrap();
    assert_eq!(texts(&records), [b"end"]);
    assert!(records[0].place.ends_with(&format!(":{}", 48 * 64 + 1)));
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes");
}

/// The most memory this process had.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[test]
fn tables_have_the_same_rows_however_they_are_written() {
    let long = "long ".repeat(100_000);
    let mut rows: Vec<String> = (0..250).map(|row| format!("row {}", row % 40)).collect();
    rows.push(long);
    let mut cells: Vec<Option<&[u8]>> = rows.iter().map(|row| Some(row.as_bytes())).collect();
    cells[70] = None;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    for form in TableForm::all() {
        write_table(&path, &cells, form);
        let error = read(&path, &text(), CorruptRows::Error)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.parquet:71: `text` is null"),
            "{form:?}: {error}"
        );
        let records = read(&path, &text(), CorruptRows::Skip).unwrap();
        let expected: Vec<&[u8]> = cells.iter().copied().flatten().collect();
        assert_eq!(texts(&records), expected, "{form:?}");
        assert!(records.last().unwrap().place.ends_with("a.parquet:251"));
    }
}

#[test]
fn columns_that_are_not_there_or_of_another_type_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    let form = TableForm::all()[0];
    write_table(&path, &[Some(b"caf\xe9"), Some(b"x")], form);
    let tries = [
        Fields::Text("body".to_owned()),
        Fields::Text("id".to_owned()),
        Fields::Completion {
            prompt: "text".to_owned(),
            completion: "answer".to_owned(),
        },
        Fields::Completion {
            prompt: "text".to_owned(),
            completion: "text".to_owned(),
        },
        Fields::Messages {
            messages: "text".to_owned(),
            tools: "tools".to_owned(),
        },
    ];
    let said = tries.map(|fields| {
        let error = read(&path, &fields, CorruptRows::Error).unwrap_err();
        assert!(error.hint().is_some());
        let error = error.to_string();
        error[error.find("a.parquet").unwrap()..].to_owned()
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn files_of_other_forms_are_refused_by_name() {
    let mut said = Vec::new();
    for (name, fields) in [
        ("a.json", text()),
        ("a.json.gz", text()),
        ("a.tar.zst", text()),
        ("a.txt.xz", text()),
        ("a.parquet.gz", text()),
        ("a.txt", messages()),
        ("a.gz", completion()),
    ] {
        let error = read_bytes(name, b"x", &fields, CorruptRows::Skip).unwrap_err();
        let hint = error.hint().unwrap();
        let error = error.to_string();
        said.push(format!(
            "{}\n  hint: {hint}",
            &error[error.find("a.").unwrap()..]
        ));
    }
    let said = said.join("\n");
    insta::assert_snapshot!(said);
}

#[test]
fn tables_of_messages_are_lists_of_objects() {
    let bytes = common::table_of_messages(&[
        Some(&[("user", Some("question")), ("assistant", Some("answer"))]),
        None,
        Some(&[]),
        Some(&[("user", None)]),
    ]);
    let records = read_bytes("a.parquet", &bytes, &messages(), CorruptRows::Skip).unwrap();
    let lines = r#"{"messages": [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]}
{"messages": [{"role": "user"}]}"#;
    let expected =
        read_bytes("a.jsonl", lines.as_bytes(), &messages(), CorruptRows::Error).unwrap();
    let contents = |records: &[lengthwise_data::records::Record]| {
        records
            .iter()
            .map(|record| record.content.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(contents(&records), contents(&expected));
    let error = read_bytes("a.parquet", &bytes, &text(), CorruptRows::Skip).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has no column `text`; it has messages"),
        "{error}"
    );
    let as_text = Fields::Text("messages".to_owned());
    let error = read_bytes("a.parquet", &bytes, &as_text, CorruptRows::Skip).unwrap_err();
    assert!(
        error.to_string().contains("column `messages` is a list"),
        "{error}"
    );
}

#[test]
fn prompts_and_completions_may_be_lists_of_messages() {
    let lines = r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}, {"role": "user"}]}"#;
    let records = read_bytes(
        "a.jsonl",
        lines.as_bytes(),
        &completion(),
        CorruptRows::Error,
    );
    let records = records.unwrap();
    let [Content::Continued { num_given: 1, .. }] =
        records.iter().map(|one| &one.content).collect::<Vec<_>>()[..]
    else {
        panic!("{records:?}")
    };
    let table = common::table_of_messages(&[
        Some(&[("user", Some("a")), ("assistant", Some("b"))][..]),
        Some(&[][..]),
        None,
    ]);
    let fields = Fields::Completion {
        prompt: "messages".to_owned(),
        completion: "messages".to_owned(),
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    fs::write(&path, table).unwrap();
    let mut reader = RecordReader::open(&path, &fields, CorruptRows::Skip).unwrap();
    let records: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    assert!(matches!(
        records[0].content,
        Content::Continued { num_given: 2, .. }
    ));
    assert_eq!((records.len(), reader.skipped().num_rows()), (1, 2));

    let message = |line: &str| {
        let read = read_bytes(
            "a.jsonl",
            line.as_bytes(),
            &completion(),
            CorruptRows::Error,
        );
        read.unwrap_err()
            .to_string()
            .split_once(":1: ")
            .unwrap()
            .1
            .to_owned()
    };
    let messages = [
        r#"{"prompt": [], "completion": [{"role": "assistant"}]}"#,
        r#"{"prompt": [{"role": "user"}], "completion": []}"#,
        r#"{"prompt": [{"role": "user"}], "completion": "text"}"#,
        r#"{"prompt": "text", "completion": [{"role": "assistant"}]}"#,
        r#"{"prompt": [{"role": "user"}], "completion": ["text"]}"#,
        r#"{"prompt": [{"role": "user"}], "completion": [{"content": "text"}]}"#,
        r#"{"prompt": [{"role": "user"}]}"#,
    ]
    .map(message);
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn tables_packed_in_other_ways_are_refused_by_name() {
    let tables = [
        ("LZ4_RAW", &include_bytes!("tables/lz4.parquet")[..]),
        ("BROTLI", &include_bytes!("tables/brotli.parquet")[..]),
    ];
    for (codec, bytes) in tables {
        let error = read_bytes("a.parquet", bytes, &text(), CorruptRows::Skip).unwrap_err();
        assert!(error.hint().unwrap().contains("zstd"));
        let error = error.to_string();
        assert!(
            error.contains(&format!(
                "column `text` is packed as {codec}; columns are read"
            )),
            "{error}"
        );
    }
}
