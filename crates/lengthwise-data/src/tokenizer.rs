//! Bytes as ids.

use std::ops::Range;

use crate::TokenSequence;

/// Each byte is an id, and [`ByteTokenizer::END_OF_TEXT`] stands before and after each document, so that its first
/// byte and its end are predicted too: a document of n bytes has n + 1 tokens.
///
/// ```text
/// ids      256  h  i  256
/// inputs   256  h  i
/// targets       h  i  256
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteTokenizer;

impl ByteTokenizer {
    /// The id between documents.
    pub const END_OF_TEXT: u32 = 256;

    /// Ids the model must know: 256 bytes and the end of text.
    pub const VOCAB: usize = 257;

    /// The tokens of a document of this many bytes.
    pub const fn num_tokens(num_bytes: u64) -> u64 {
        num_bytes.saturating_add(1)
    }

    /// Which bytes of a document the sequence with these of its tokens is made from.
    pub(crate) fn bytes_of(tokens: &Range<u64>, num_bytes: u64) -> Range<u64> {
        tokens.start.saturating_sub(1)..tokens.end.min(num_bytes)
    }

    /// The sequence with these tokens of a document of `num_bytes`, from the bytes that [`ByteTokenizer::bytes_of`]
    /// names.
    ///
    /// Its first input is the token before `tokens`, or the end of text where there is none.
    pub(crate) fn sequence(tokens: &Range<u64>, num_bytes: u64, bytes: &[u8]) -> TokenSequence {
        let first = (tokens.start == 0).then_some(Self::END_OF_TEXT);
        let last = (tokens.end > num_bytes).then_some(Self::END_OF_TEXT);
        let ids = bytes.iter().map(|&byte| u32::from(byte));
        TokenSequence::new(first.into_iter().chain(ids).chain(last).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_document_share_the_token_at_their_boundary() {
        let text = b"hello";
        let pieces = [0..2, 2..4, 4..6].map(|tokens: Range<u64>| {
            let bytes = ByteTokenizer::bytes_of(&tokens, 5);
            ByteTokenizer::sequence(&tokens, 5, &text[bytes.start as usize..bytes.end as usize])
        });
        let [h, e, l, o] = [b'h', b'e', b'l', b'o'].map(u32::from);
        assert_eq!(pieces[0].targets(), [h, e]);
        assert_eq!(pieces[1].inputs(), [e, l]);
        assert_eq!(pieces[1].targets(), [l, l]);
        assert_eq!(pieces[2].inputs(), [l, o]);
        assert_eq!(pieces[2].targets(), [o, ByteTokenizer::END_OF_TEXT]);
    }
}
