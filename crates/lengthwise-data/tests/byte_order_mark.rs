//! Corpora in files that begin with a byte-order mark.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

use std::fs;
use std::path::Path;

use lengthwise_core::Tokens;
use lengthwise_data::{BatchSize, Batches, Corpus, CutRule, Overlong};

/// The token ids of the first batches of a JSONL file.
fn ids(root: &Path, content: &str) -> Vec<Vec<u32>> {
    let path = root.join("corpus.jsonl");
    fs::write(&path, content).unwrap();
    let corpus = Corpus::open(&[path], &["jsonl".to_owned()]).unwrap();
    let rule = CutRule {
        context: Tokens(1000),
        overlong: Overlong::Split,
        min_tokens: Tokens(1),
    };
    let batches = Batches::new(corpus, rule, BatchSize::Sequences(7), 3).unwrap();
    let batches = batches.take(5).map(Result::unwrap);
    let sequences = batches.flat_map(|batch| batch.sequences);
    sequences
        .map(|sequence| sequence.inputs().to_vec())
        .collect()
}

#[test]
fn the_mark_changes_no_token_of_short_documents_or_of_cut_ones() {
    let root = tempfile::tempdir().unwrap();
    let long: String = (0..9000).map(|number| format!("{number} ")).collect();
    for content in [
        "{\"text\":\"one\"}\n{\"text\":\"two\"}\n".to_owned(),
        format!("{{\"id\":1,\"text\":\"{long}\"}}\n{{\"text\":\"two\"}}\n"),
        format!("\r\n{{\"text\":\"two\"}}\r\n{{\"text\":\"{long}\"}}"),
    ] {
        let plain = ids(root.path(), &content);
        let marked = ids(root.path(), &format!("\u{feff}{content}"));
        assert_eq!(plain, marked);
    }
}

#[test]
fn a_mark_elsewhere_is_named_by_its_line() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("corpus.jsonl");
    fs::write(&path, "{\"text\":\"one\"}\n\u{feff}{\"text\":\"two\"}\n").unwrap();
    let error = Corpus::open(&[path], &["jsonl".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("corpus.jsonl:2: "), "{error}");
}
