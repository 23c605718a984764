//! Tokenizers of `tokenizer.json`.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod tokenizer;

use std::fs;
use std::path::Path;

use lengthwise_data::{DataError, SpecialTokens, TextEncoder, TokenizerFile, TokenizerOptions};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::{BEGIN_OF_TEXT, END_OF_TEXT, VOCAB, tokenizer_json, write_json, write_tokenizer};

fn open(path: &Path) -> Result<TokenizerFile, DataError> {
    TokenizerFile::open(path, &TokenizerOptions::default())
}

fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().copied().map(u32::from).collect()
}

#[test]
fn text_becomes_the_ids_of_the_tokenizer() {
    let root = tempfile::tempdir().unwrap();
    write_tokenizer(root.path());
    let tokenizer = open(root.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), VOCAB);
    assert_eq!(
        (tokenizer.end_of_text(), tokenizer.first()),
        (END_OF_TEXT, None)
    );
    assert_eq!(tokenizer.before_text(), END_OF_TEXT);
    assert_eq!(tokenizer.encode(b"the thing").unwrap(), [257, 32, 256, 260]);
    assert_eq!(
        tokenizer.encode("\u{fc}".as_bytes()).unwrap(),
        ids("\u{fc}".as_bytes())
    );
    assert!(tokenizer.encode(b"").unwrap().is_empty());
    let message = tokenizer.encode(b"ab\xff").unwrap_err().to_string();
    assert_eq!(message, "byte 3 of it is not UTF-8");
}

#[test]
fn special_tokens_in_a_text_are_those_unless_they_are_to_be_text() {
    let root = tempfile::tempdir().unwrap();
    let path = write_tokenizer(root.path());
    let text = "a<|endoftext|>b";
    let recognised = open(&path).unwrap();
    assert_eq!(
        recognised.encode(text.as_bytes()).unwrap(),
        [97, END_OF_TEXT, 98]
    );
    let options = TokenizerOptions {
        special_tokens: SpecialTokens::Text,
        ..TokenizerOptions::default()
    };
    let plain = TokenizerFile::open(&path, &options).unwrap();
    let of_text = plain.encode(text.as_bytes()).unwrap();
    assert!(!of_text.contains(&END_OF_TEXT));
    assert_eq!(of_text.len(), text.len());
    assert_ne!(plain.fingerprint(), recognised.fingerprint());
    // Templates are made of special tokens.
    for tokenizer in [plain, recognised] {
        let template = tokenizer.encode_template(text).unwrap();
        assert_eq!(template, [(97, 0..1), (END_OF_TEXT, 1..14), (98, 14..15)]);
    }
}

#[test]
fn truncation_and_padding_cut_no_document() {
    let root = tempfile::tempdir().unwrap();
    let path = write_tokenizer(root.path());
    let mut json = tokenizer_json();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "!",
    });
    write_json(&path, &json);
    assert_eq!(
        open(&path).unwrap().encode(b"abcde").unwrap(),
        ids(b"abcde")
    );
}

#[test]
fn the_end_of_text_is_what_is_named_else_what_files_say() {
    let root = tempfile::tempdir().unwrap();
    let path = write_tokenizer(root.path());
    let named = |name: &str| {
        let options = TokenizerOptions {
            end_of_text: Some(name.to_owned()),
            ..TokenizerOptions::default()
        };
        TokenizerFile::open(&path, &options).map(|tokenizer| tokenizer.end_of_text())
    };
    assert_eq!(named("<|begin|>").unwrap(), BEGIN_OF_TEXT);
    assert_eq!(named("13").unwrap(), 13);
    for wrong in ["<|end|>", "264", "-1"] {
        let error = named(wrong).unwrap_err();
        assert!(matches!(error, DataError::NoSuchToken { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    // From the one that counts least to the one that counts most.
    let write = |name: &str, value: Value| write_json(&root.path().join(name), &value);
    fs::remove_file(root.path().join("tokenizer_config.json")).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, DataError::NoEndOfText { .. }), "{error}");
    for (name, value, expected) in [
        ("config.json", json!({"eos_token_id": 5}), 5),
        ("generation_config.json", json!({"eos_token_id": [6, 7]}), 6),
        (
            "special_tokens_map.json",
            json!({"eos_token": {"content": "th"}}),
            256,
        ),
        (
            "tokenizer_config.json",
            json!({"eos_token": "<|endoftext|>"}),
            END_OF_TEXT,
        ),
    ] {
        write(name, value);
        assert_eq!(open(&path).unwrap().end_of_text(), expected, "{name}");
    }
    write("tokenizer_config.json", json!({"eos_token": null}));
    assert_eq!(open(&path).unwrap().end_of_text(), 256);
    write("tokenizer_config.json", json!({"eos_token": "</s>"}));
    let message = open(&path).unwrap_err().to_string();
    assert!(
        message.contains("eos_token = \"</s>\" is no token of"),
        "{message}"
    );
}

#[test]
fn what_the_tokenizer_puts_before_texts_is_known() {
    let root = tempfile::tempdir().unwrap();
    let path = write_tokenizer(root.path());
    let mut json = tokenizer_json();
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [BEGIN_OF_TEXT], "tokens": ["<|begin|>"]}},
    });
    write_json(&path, &json);
    let tokenizer = open(&path).unwrap();
    assert_eq!(tokenizer.first(), Some(BEGIN_OF_TEXT));
    assert_eq!(tokenizer.before_text(), BEGIN_OF_TEXT);
    assert_eq!(tokenizer.encode(b"a").unwrap(), [97]);
    // The configuration beside it counts more.
    let config = root.path().join("tokenizer_config.json");
    let configured = |adds: bool| {
        let bos = json!({"add_bos_token": adds, "bos_token": "in", "eos_token": "<|endoftext|>"});
        write_json(&config, &bos);
        open(&path).unwrap().first()
    };
    assert_eq!(configured(true), Some(259));
    assert_eq!(configured(false), None);
    write_json(
        &config,
        &json!({"add_bos_token": true, "eos_token": "<|endoftext|>"}),
    );
    assert!(open(&path).is_err());
}

#[test]
fn what_is_no_tokenizer_is_one_error() {
    let root = tempfile::tempdir().unwrap();
    let path = write_tokenizer(root.path());
    let good = serde_json::to_string(&tokenizer_json()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = tokenizer_json();
        change(&mut json);
        json.to_string()
    };
    let broken = [
        String::new(),
        "{}".to_owned(),
        "[1, 2]".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.clone() + "}",
        with(&|json| json["model"] = json!({"type": "Magic"})),
        with(&|json| json["model"]["merges"] = json!(["q zz"])),
        with(&|json| json["model"]["merges"] = json!(["nospace"])),
        with(&|json| json["model"]["vocab"] = json!({"a": -1})),
        with(&|json| json["model"]["vocab"] = json!({"a": 1e20})),
        with(&|json| json["model"]["dropout"] = json!(0.5)),
        with(
            &|json| json["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
        with(&|json| json["pre_tokenizer"] = json!({"type": "Nonsense"})),
        with(&|json| {
            json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})
        }),
        with(&|json| json["added_tokens"] = json!([{"id": 0}])),
        with(&|json| json["version"] = json!("9.9")),
    ];
    for (index, text) in broken.iter().enumerate() {
        fs::write(&path, text).unwrap();
        match open(&path) {
            Err(DataError::Tokenizer { path: named, .. }) => assert_eq!(named, path, "{index}"),
            other => panic!("{index}: {other:?}"),
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(&path), Err(DataError::Read { .. })));
    assert_eq!(TokenizerFile::find(root.path()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_text_is_encoded_to_ids_that_stand_for_it(text in "\\PC*") {
        let root = tempfile::tempdir().unwrap();
        write_tokenizer(root.path());
        let tokenizer = open(root.path()).unwrap();
        let ids = tokenizer.encode(text.as_bytes()).unwrap();
        let template = tokenizer.encode_template(&text).unwrap();
        prop_assert_eq!(&ids, &template.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        let mut end = 0;
        for (id, bytes) in template {
            prop_assert!((id as usize) < VOCAB);
            // Tokens of a part of a character name the whole of it.
            prop_assert!(bytes.start <= end && bytes.end >= bytes.start);
            end = end.max(bytes.end);
        }
        prop_assert_eq!(end, text.len());
    }
}

#[test]
fn a_long_text_has_the_ids_of_its_lines() {
    let root = tempfile::tempdir().unwrap();
    write_tokenizer(root.path());
    let tokenizer = open(root.path()).unwrap();
    let line = "the thing, <|endoftext|> in \u{fc}ber the ring's\n\n  the end.\n";
    let of_line = tokenizer.encode(line.as_bytes()).unwrap();
    let num_lines = (3 << 20) / line.len();
    let ids = tokenizer.encode(line.repeat(num_lines).as_bytes()).unwrap();
    assert!(ids == of_line.repeat(num_lines));
    // Nothing can be cut out of one word.
    let message = tokenizer
        .encode(&vec![b'a'; (64 << 20) + 1])
        .unwrap_err()
        .to_string();
    assert!(message.contains("bytes that can't be cut"), "{message}");
}
