//! Records of each kind become the ids, and the labels, that TRL's `SFTTrainer` makes of them.
//!
//! `trl.json` holds rows, and the `input_ids` and `labels` of `SFTTrainer(...).train_dataset` (TRL 1.16) for them with the
//! tokenizer of these tests; `assistant_only_loss=True` for messages.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;
mod tokenizer;

use std::fs;
use std::sync::Arc;

use lengthwise_data::chat::ChatTemplates;
use lengthwise_data::records::CorruptRows;
use lengthwise_data::{RecordEncoder, TokenizerFile, TokenizerOptions};
use serde_json::Value;

const RECORDED: &str = include_str!("trl.json");

#[test]
fn ids_and_labels_are_those_of_trl() {
    let directory = tempfile::tempdir().unwrap();
    let path = tokenizer::write_tokenizer(directory.path());
    let opened = TokenizerFile::open(&path, &TokenizerOptions::default()).unwrap();
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let template = directory.path().join("template.jinja");
    fs::write(&template, recorded["template"].as_str().unwrap()).unwrap();
    let templates = Arc::new(ChatTemplates::of_file(&template, None).unwrap());
    let opened = Arc::new(opened);
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let row = &case["row"];
        let fields = match row.get("messages") {
            Some(_) => common::messages(),
            None => common::completion(),
        };
        let file = directory.path().join("rows.jsonl");
        fs::write(&file, row.to_string()).unwrap();
        let templates = Some(Arc::clone(&templates));
        let encoder = RecordEncoder::new(opened.clone(), fields, templates, CorruptRows::Error);
        let documents: Vec<_> = encoder.documents(&file).map(Result::unwrap).collect();
        let [document] = &documents[..] else {
            panic!("{documents:?}")
        };
        let mut expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let mut is_label = case["is_label"].as_str().unwrap().to_owned();
        // TRL adds no end of text where the completion ends with its name; here each completion that is a text has one.
        let ends = row["completion"].as_str();
        if ends.is_some_and(|completion| completion.ends_with("<|endoftext|>")) {
            expected.push(tokenizer::END_OF_TEXT);
            is_label.push('1');
        }
        assert_eq!(document.ids, expected, "{row}");
        let found = document.is_label.as_deref().unwrap().iter();
        let found: String = found.map(|&label| if label { '1' } else { '0' }).collect();
        assert_eq!(found, is_label, "{row}");
    }
}
