//! A tokenizer that is small enough to write in a test.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "tests write what is read, each its own part"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The tokens after the 256 bytes.
pub const MERGED: [&str; 6] = ["th", "the", "\u{120}the", "in", "ing", "\u{e3}\u{123}"];
pub const END_OF_TEXT: u32 = 262;
pub const BEGIN_OF_TEXT: u32 = 263;
pub const VOCAB: usize = 264;

/// The character that stands for a byte in byte-level tokenizers.
pub fn character(byte: u8) -> char {
    let is_shown = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if is_shown(byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|&byte| !is_shown(byte)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

/// A byte-level BPE tokenizer: the id of a byte is the byte, merged tokens follow, then special ones.
pub fn tokenizer_json() -> Value {
    let mut vocab = serde_json::Map::new();
    for byte in 0..=255u8 {
        vocab.insert(character(byte).to_string(), byte.into());
    }
    for (id, token) in (256..).zip(MERGED) {
        vocab.insert(token.to_owned(), id.into());
    }
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            special(END_OF_TEXT, "<|endoftext|>"),
            special(BEGIN_OF_TEXT, "<|begin|>"),
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": ["t h", "th e", "\u{120} the", "i n", "in g", "\u{e3} \u{123}"],
        },
    })
}

/// Writes a tokenizer and the file that names its end of text; returns the tokenizer's path.
pub fn write_tokenizer(directory: &Path) -> PathBuf {
    write_json(
        &directory.join("tokenizer_config.json"),
        &json!({"eos_token": "<|endoftext|>"}),
    );
    let path = directory.join("tokenizer.json");
    write_json(&path, &tokenizer_json());
    path
}

pub fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}
