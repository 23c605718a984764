//! Which tokens stand before and after documents, as the files of a tokenizer tell it.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::DataError;
use crate::tokenizer_file::companion;

/// Where the end of a text is named, in the order in which it is looked for.
const NAMED_IN: [(&str, &str); 4] = [
    ("tokenizer_config.json", "eos_token"),
    ("special_tokens_map.json", "eos_token"),
    ("generation_config.json", "eos_token_id"),
    ("config.json", "eos_token_id"),
];

/// The search for the token after documents.
pub(crate) struct EndOfText<'a> {
    pub directory: &'a Path,
    pub tokenizer: &'a Tokenizer,
    pub vocab_size: usize,
}

impl EndOfText<'_> {
    /// The token that the user names, else the one that the files name.
    pub fn find(&self, path: &Path, named: Option<&str>) -> Result<u32, DataError> {
        if let Some(named) = named {
            let number = || named.parse::<u32>().ok();
            let id = self.tokenizer.token_to_id(named).or_else(number);
            return match id {
                Some(id) if (id as usize) < self.vocab_size => Ok(id),
                _ => Err(DataError::NoSuchToken {
                    path: path.to_owned(),
                    token: named.to_owned(),
                    vocab_size: self.vocab_size,
                }),
            };
        }
        for (file, key) in NAMED_IN {
            let Some(object) = companion(self.directory, file)? else {
                continue;
            };
            let value = object.get(key).unwrap_or(&Value::Null);
            if value.is_null() {
                continue;
            }
            return self.id(value).ok_or_else(|| DataError::Tokenizer {
                path: self.directory.join(file),
                reason: format!("{key} = {value} is no token of {}", path.display()),
            });
        }
        Err(DataError::NoEndOfText {
            path: path.to_owned(),
        })
    }

    fn id(&self, value: &Value) -> Option<u32> {
        let id = match value {
            // Models that may end in several ways name the usual one first.
            Value::Array(values) => values.first()?.as_u64()?,
            Value::Number(number) => number.as_u64()?,
            value => self.tokenizer.token_to_id(token(value)?)?.into(),
        };
        u32::try_from(id)
            .ok()
            .filter(|&id| (id as usize) < self.vocab_size)
    }
}

/// A token is written by its name, or as an object with it.
fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The token that a tokenizer puts before each document: its own configuration says so, or its post-processor does it.
pub(crate) fn before_documents(
    path: &Path,
    directory: &Path,
    tokenizer: &Tokenizer,
) -> Result<Option<u32>, DataError> {
    let config = companion(directory, "tokenizer_config.json")?.unwrap_or_default();
    let adds = config.get("add_bos_token").and_then(Value::as_bool);
    if adds == Some(false) {
        return Ok(None);
    }
    if adds == Some(true) {
        let named = config.get("bos_token").unwrap_or(&Value::Null);
        let id = token(named).and_then(|name| tokenizer.token_to_id(name));
        return match id {
            Some(id) => Ok(Some(id)),
            None => Err(DataError::Tokenizer {
                path: directory.join("tokenizer_config.json"),
                reason: format!(
                    "add_bos_token is true, and bos_token = {named} is no token of {}",
                    path.display()
                ),
            }),
        };
    }
    let broken = |reason: String| DataError::Tokenizer {
        path: path.to_owned(),
        reason,
    };
    // What the post-processor adds to no text at all stands before the text or after it; with some text it is told apart.
    let ids = |special: bool| {
        let encoded = tokenizer.encode("a", special);
        let encoded = encoded.map_err(|error| broken(format!("it fails on a text: {error}")));
        encoded.map(|encoded| encoded.get_ids().to_vec())
    };
    let (bare, whole) = (ids(false)?, ids(true)?);
    let at = whole
        .windows(bare.len().max(1))
        .position(|part| part == bare);
    match whole[..at.unwrap_or(0)] {
        [] => Ok(None),
        [first] => Ok(Some(first)),
        ref more => Err(broken(format!(
            "its post-processor puts {} tokens before each text; it may put one",
            more.len()
        ))),
    }
}
