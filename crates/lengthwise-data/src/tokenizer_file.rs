//! Tokenizers as Hugging Face writes them: `tokenizer.json`, and what stands beside it.

use std::fmt;
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};
use twox_hash::XxHash3_128;

use crate::encoder::text;
use crate::pieces::pieces;
use crate::special_tokens::{EndOfText, before_documents};
use crate::{DataError, TextEncoder, whole_file};

/// The name of the file in a directory.
pub(crate) const TOKENIZER_JSON: &str = "tokenizer.json";

/// A longer text is encoded in pieces, which takes less memory and more cores.
const PIECE_BYTES: usize = 1 << 20;

/// The longest text, or part of one that can't be cut: a tokenizer takes some hundred bytes of memory for each of its bytes.
const MOST_BYTES: usize = 64 << 20;

/// What the names of special tokens mean where they stand in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialTokens {
    /// The special tokens, as tokenizers do it unless they are told otherwise.
    #[default]
    Recognise,
    /// Letters like any others: no text ends itself.
    Text,
}

impl SpecialTokens {
    /// The names that [`FromStr`] reads.
    pub const NAMES: [&str; 2] = ["recognise", "text"];
}

impl FromStr for SpecialTokens {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "recognise" => Ok(SpecialTokens::Recognise),
            "text" => Ok(SpecialTokens::Text),
            _ => Err(()),
        }
    }
}

impl fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpecialTokens::Recognise => "recognise",
            SpecialTokens::Text => "text",
        })
    }
}

/// How a tokenizer is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerOptions {
    /// The token that stands after documents, by name or by number; `None` for the one that the files name.
    pub end_of_text: Option<String>,
    /// What the names of special tokens mean in a text.
    pub special_tokens: SpecialTokens,
}

/// A tokenizer of a `tokenizer.json`.
///
/// Its ids are those that the tokenizer gives in Python, but for truncation and padding, which are left out: documents
/// are cut by a [`CutRule`](crate::CutRule).
pub struct TokenizerFile {
    path: PathBuf,
    /// For text.
    tokenizer: Tokenizer,
    /// For templates, where that is another.
    of_templates: Option<Tokenizer>,
    end_of_text: u32,
    first: Option<u32>,
    vocab_size: usize,
    fingerprint: String,
}

impl fmt::Debug for TokenizerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenizerFile")
            .field("path", &self.path)
            .field("end_of_text", &self.end_of_text)
            .field("first", &self.first)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

impl TokenizerFile {
    /// The `tokenizer.json` of a directory, if it has one.
    pub fn find(directory: &Path) -> Option<PathBuf> {
        let path = directory.join(TOKENIZER_JSON);
        fs::symlink_metadata(&path).is_ok().then_some(path)
    }

    /// Opens a `tokenizer.json`, or that of a directory.
    ///
    /// # Errors
    ///
    /// It can't be read or is no tokenizer, its ids would be others each time, or nothing says which of them ends a text.
    pub fn open(path: &Path, options: &TokenizerOptions) -> Result<Self, DataError> {
        let path = match path.is_dir() {
            true => path.join(TOKENIZER_JSON),
            false => path.to_owned(),
        };
        let bytes = whole_file::read(&path)?;
        let broken = |reason: String| DataError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let mut tokenizer = parse(&bytes).map_err(broken)?;
        let truncated = tokenizer.with_truncation(None).map(|_| ());
        truncated.map_err(|error| broken(error.to_string()))?;
        tokenizer.with_padding(None);
        if let ModelWrapper::BPE(model) = tokenizer.get_model()
            && let Some(dropout) = model.dropout.filter(|&dropout| dropout > 0.0)
        {
            let reason = format!("model.dropout = {dropout} would give other ids each time");
            return Err(broken(reason));
        }
        let vocab = tokenizer.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        drop(vocab);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let end_of_text = EndOfText {
            directory: &directory,
            tokenizer: &tokenizer,
            vocab_size,
        };
        let end_of_text = end_of_text.find(&path, options.end_of_text.as_deref())?;
        let first = before_documents(&path, &directory, &tokenizer)?;

        let mut of_templates = None;
        if options.special_tokens == SpecialTokens::Text {
            of_templates = Some(tokenizer.clone());
            tokenizer.set_encode_special_tokens(true);
        }
        let fingerprint = format!(
            "{:032x} end {end_of_text} first {first:?} special tokens {}",
            XxHash3_128::oneshot(&bytes),
            options.special_tokens
        );
        Ok(TokenizerFile {
            path,
            tokenizer,
            of_templates,
            end_of_text,
            first,
            vocab_size,
            fingerprint,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn encode_piece(&self, text: &str) -> Result<Vec<u32>, DataError> {
        if text.len() > MOST_BYTES {
            return Err(DataError::TextTooLong {
                num_bytes: text.len() as u64,
                most_bytes: MOST_BYTES as u64,
            });
        }
        let encoded = quietly(|| self.tokenizer.encode_fast(text, false));
        match encoded {
            Some(Ok(encoded)) => Ok(encoded.get_ids().to_vec()),
            Some(Err(error)) => Err(self.failed(error)),
            None => Err(self.failed("its parts don't fit together")),
        }
    }

    fn failed(&self, reason: impl fmt::Display) -> DataError {
        DataError::Tokenizer {
            path: self.path.clone(),
            reason: format!("it fails on a text: {reason}"),
        }
    }
}

/// Some broken files make the parser panic; none may end the program.
fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let parsed = quietly(|| Tokenizer::from_bytes(bytes));
    match parsed {
        Some(Ok(tokenizer)) => Ok(tokenizer),
        Some(Err(error)) => Err(format!("it is no tokenizer: {error}")),
        None => Err("it is no tokenizer: its parts don't fit together".to_owned()),
    }
}

fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

impl TextEncoder for TokenizerFile {
    fn encode(&self, bytes: &[u8]) -> Result<Vec<u32>, DataError> {
        let text = text(bytes)?;
        if text.len() <= PIECE_BYTES {
            return self.encode_piece(text);
        }
        let pieces = pieces(text, PIECE_BYTES, &|part| self.encode_piece(part))?;
        let next = AtomicUsize::new(0);
        let num_threads = thread::available_parallelism().map_or(1, NonZero::get);
        let work = || {
            let mut encoded = Vec::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                encoded.push((piece.start, self.encode_piece(&text[piece.clone()])));
            }
            encoded
        };
        let mut encoded: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (1..num_threads.min(pieces.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let own = work();
            let others = threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_default());
            others.chain(own).collect()
        });
        if encoded.len() != pieces.len() {
            return Err(self.failed("a thread has ended early"));
        }
        encoded.sort_by_key(|(start, _)| *start);
        let mut ids = Vec::new();
        for (_, piece) in encoded {
            ids.extend(piece?);
        }
        Ok(ids)
    }

    fn encode_template(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        let tokenizer = self.of_templates.as_ref().unwrap_or(&self.tokenizer);
        let encoded = quietly(|| tokenizer.encode(text, false));
        let encoded = match encoded {
            Some(encoded) => encoded.map_err(|error| self.failed(error))?,
            None => return Err(self.failed("its parts don't fit together")),
        };
        let places = encoded.get_offsets().iter().map(|&(from, to)| from..to);
        Ok(encoded.get_ids().iter().copied().zip(places).collect())
    }

    fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    fn first(&self) -> Option<u32> {
        self.first
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// A JSON file beside a tokenizer; `None` if it is not there.
pub(crate) fn companion(directory: &Path, name: &str) -> Result<Option<Value>, DataError> {
    let path = directory.join(name);
    let Some(bytes) = whole_file::read_optional(&path)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(DataError::Tokenizer {
            path,
            reason: "it is no JSON object".to_owned(),
        }),
        Err(error) => Err(DataError::Tokenizer {
            path,
            reason: error.to_string(),
        }),
    }
}
