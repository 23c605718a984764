//! From text to ids, whatever tokenizer there is.

use std::ops::Range;
use std::str;

use crate::{ByteTokenizer, DataError};

/// Makes ids of text.
///
/// No method adds special tokens by itself: what stands before and after a document is up to whoever encodes it.
pub trait TextEncoder: Send + Sync {
    /// The ids of a text.
    ///
    /// # Errors
    ///
    /// It can't be encoded: it is not the text that the tokenizer needs.
    fn encode(&self, text: &[u8]) -> Result<Vec<u32>, DataError>;

    /// The ids of a rendered chat template with the bytes of it that each stands for; special tokens in it are always
    /// recognised.
    ///
    /// # Errors
    ///
    /// As [`TextEncoder::encode`].
    fn encode_template(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError>;

    /// The token after each document.
    fn end_of_text(&self) -> u32;

    /// What the tokenizer puts before each document, if it puts anything.
    fn first(&self) -> Option<u32>;

    /// More than any id it gives.
    fn vocab_size(&self) -> usize;

    /// The same for two encoders only if they give the same ids for every text.
    fn fingerprint(&self) -> String;

    /// What a document begins with when it is read, so that its first id is predicted too: what the tokenizer puts
    /// there, or the end of the text before.
    fn before_text(&self) -> u32 {
        self.first().unwrap_or_else(|| self.end_of_text())
    }
}

impl TextEncoder for ByteTokenizer {
    fn encode(&self, text: &[u8]) -> Result<Vec<u32>, DataError> {
        Ok(text.iter().copied().map(u32::from).collect())
    }

    fn encode_template(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        let bytes = text.bytes().enumerate();
        Ok(bytes.map(|(at, byte)| (byte.into(), at..at + 1)).collect())
    }

    fn end_of_text(&self) -> u32 {
        Self::END_OF_TEXT
    }

    fn first(&self) -> Option<u32> {
        None
    }

    fn vocab_size(&self) -> usize {
        Self::VOCAB
    }

    fn fingerprint(&self) -> String {
        "bytes".to_owned()
    }
}

/// Bytes as the text that a tokenizer needs.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DataError> {
    str::from_utf8(bytes).map_err(|error| DataError::NotUtf8 {
        offset: error.valid_up_to() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded_as_they_are() {
        let encoder = ByteTokenizer;
        assert_eq!(encoder.encode(&[0, 0xff]).unwrap(), [0, 255]);
        let template = encoder.encode_template("ü").unwrap();
        assert_eq!(template, [(0xc3, 0..1), (0xbc, 1..2)]);
        assert_eq!(encoder.before_text(), ByteTokenizer::END_OF_TEXT);
    }
}
