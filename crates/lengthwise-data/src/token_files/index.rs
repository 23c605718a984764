//! The `.idx` file: what type ids have, and where each document is in the `.bin` file.
//!
//! ```text
//! 9 bytes  MMIDIDX and two zeros
//! u64      version, 1
//! u8       type of an id
//! u64      number of sequences s
//! u64      number of documents + 1: d
//! i32 x s  ids of each sequence
//! i64 x s  byte at which each begins: where the one before it ends
//! i64 x d  the first sequence of each document, and s
//! ```
//!
//! A document is one sequence or several, such as its sentences.

use std::io::{self, Write};
use std::path::Path;

use super::element::TokenType;
use super::positional::{Numbers, ReadAt};
use crate::DataError;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
const HEADER_BYTES: u64 = 34;

/// Places of documents in a `.bin` file: 8 bytes of memory for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIndex {
    /// How ids are stored.
    pub token_type: TokenType,
    /// For each document the number of ids before it, then the number of all ids.
    starts: Vec<u64>,
}

impl TokenIndex {
    /// Reads an index of `num_bytes` and checks that all it says agrees, also with the size of the ids' file. Memory is
    /// taken only for documents that the file has room to name.
    ///
    /// # Errors
    ///
    /// It can't be read, or says what can't be.
    pub fn read(
        path: &Path,
        source: &(impl ReadAt + ?Sized),
        num_bytes: u64,
        num_bin_bytes: u64,
    ) -> Result<Self, DataError> {
        let broken = |reason: String| DataError::TokenFile {
            path: path.to_owned(),
            reason,
        };
        let unreadable = |source: io::Error| DataError::Read {
            path: path.to_owned(),
            source,
        };
        if num_bytes < HEADER_BYTES {
            return Err(broken(format!(
                "it has {num_bytes} bytes, and a header alone has {HEADER_BYTES}"
            )));
        }
        let mut header = [0; HEADER_BYTES as usize];
        source.read_exact_at(&mut header, 0).map_err(unreadable)?;
        if header[..9] != *MAGIC {
            return Err(broken(format!(
                "it begins with {:?}; an index begins with \"MMIDIDX\\0\\0\"",
                String::from_utf8_lossy(&header[..9])
            )));
        }
        let number = |at: usize| {
            u64::from_le_bytes(header[at..at + 8].try_into().expect("a number has 8 bytes"))
        };
        if number(9) != VERSION {
            return Err(broken(format!(
                "its version is {}; {VERSION} is the one there is",
                number(9)
            )));
        }
        let code = header[17];
        let token_type = TokenType::of_code(code).map_err(|stands_for| {
            broken(format!(
                "the type of its ids is {code}, which is {stands_for}; ids are whole numbers: 1 to 5, or 8"
            ))
        })?;
        let (num_sequences, num_bounds) = (number(18), number(26));
        let expected = num_sequences
            .checked_mul(12)
            .and_then(|bytes| bytes.checked_add(num_bounds.checked_mul(8)?))
            .and_then(|bytes| bytes.checked_add(HEADER_BYTES));
        if expected != Some(num_bytes) {
            let with_modes = expected.and_then(|bytes| bytes.checked_add(num_sequences));
            return Err(broken(
                if with_modes == Some(num_bytes) && num_sequences > 0 {
                    "it has modes of sequences, which only data of several kinds has; text is read"
                        .to_owned()
                } else {
                    format!(
                        "{num_sequences} sequences and {num_bounds} bounds of documents take {} bytes; it has {num_bytes}",
                        expected.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string())
                    )
                },
            ));
        }
        if num_bounds == 0 {
            return Err(broken(
                "it has no bounds of documents; there is always the end of the last".to_owned(),
            ));
        }
        let lens_at = HEADER_BYTES;
        let pointers_at = lens_at + 4 * num_sequences;
        let bounds_at = pointers_at + 8 * num_sequences;
        let mut lens = Numbers::new(source, lens_at, num_sequences, 4);
        let mut pointers = Numbers::new(source, pointers_at, num_sequences, 8);
        let mut bounds = Numbers::new(source, bounds_at, num_bounds, 8);

        let mut starts = Vec::with_capacity(num_bounds as usize);
        let (mut num_ids, mut last_bound) = (0u64, 0);
        let mut bound = bounds.next().map_err(unreadable)?;
        if bound != Some(0) {
            return Err(broken(format!(
                "its first document begins with sequence {}; it must begin with 0",
                bound.unwrap_or_default()
            )));
        }
        for sequence in 0..=num_sequences {
            while bound == Some(sequence as i64) {
                starts.push(num_ids);
                last_bound = sequence;
                bound = bounds.next().map_err(unreadable)?;
                if let Some(next) = bound
                    .filter(|&next| next < sequence as i64 || next.unsigned_abs() > num_sequences)
                {
                    return Err(broken(format!(
                        "document {} begins with sequence {next}, and the one before it with {sequence}; they go up \
                         to the number of sequences, {num_sequences}",
                        starts.len()
                    )));
                }
            }
            let Some(len) = lens.next().map_err(unreadable)? else {
                break;
            };
            let pointer = pointers.next().map_err(unreadable)?.unwrap_or_default();
            let start = num_ids * token_type.num_bytes();
            if len < 0 {
                return Err(broken(format!("sequence {sequence} has {len} ids")));
            }
            if pointer < 0 || pointer as u64 != start {
                return Err(broken(format!(
                    "sequence {sequence} begins at byte {pointer}; the one before it ends at byte {start}"
                )));
            }
            num_ids += len as u64;
            if num_ids * token_type.num_bytes() > num_bin_bytes {
                return Err(broken(format!(
                    "sequence {sequence} ends at byte {}; the ids have {num_bin_bytes} bytes",
                    num_ids * token_type.num_bytes()
                )));
            }
        }
        if last_bound != num_sequences {
            return Err(broken(format!(
                "its last document ends before sequence {last_bound}; it must end with the last of {num_sequences}"
            )));
        }
        if num_ids * token_type.num_bytes() != num_bin_bytes {
            return Err(broken(format!(
                "its {num_ids} ids take {} bytes; the file of ids has {num_bin_bytes}",
                num_ids * token_type.num_bytes()
            )));
        }
        Ok(TokenIndex { token_type, starts })
    }

    /// How many documents there are.
    pub fn num_documents(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the range of a document's ids among all ids.
    ///
    /// # Panics
    ///
    /// There is no such document.
    pub fn ids(&self, document: usize) -> std::ops::Range<u64> {
        self.starts[document]..self.starts[document + 1]
    }

    /// How many ids there are.
    pub fn num_ids(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Writes the index of documents of these numbers of ids, a sequence each.
    pub(crate) fn write(
        token_type: TokenType,
        lens: &[u32],
        to: &mut impl Write,
    ) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&[token_type.code()])?;
        let num = lens.len() as u64;
        to.write_all(&num.to_le_bytes())?;
        to.write_all(&(num + 1).to_le_bytes())?;
        for len in lens {
            to.write_all(&len.to_le_bytes())?;
        }
        let mut pointer = 0u64;
        for &len in lens {
            to.write_all(&pointer.to_le_bytes())?;
            pointer += u64::from(len) * token_type.num_bytes();
        }
        (0..=num).try_for_each(|bound| to.write_all(&bound.to_le_bytes()))
    }
}
