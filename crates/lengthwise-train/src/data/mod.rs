//! From files to global batches of token sequences.
//!
//! ```text
//! files       paths and directories -> files, in a fixed order, each once
//! corpus      files -> documents: a text file is one, a JSONL file has one a line
//! tokenizer   bytes -> ids
//! cut         a document -> the sequences that fit the context, and what is lost
//! batches     sequences in a new order every epoch -> global batches
//! ```

mod error;
mod token_sequence;

pub use error::DataError;
pub use token_sequence::{BatchOrigin, TokenBatch, TokenSequence};
