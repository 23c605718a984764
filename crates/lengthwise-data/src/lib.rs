//! From documents to global batches of token sequences: what training draws, step by step.
//!
//! ```text
//! files       paths and directories -> files, in a fixed order, each once
//! corpus      files -> documents: a text file is one, a JSONL file has one a line
//! landmarks   where the parts of a long document are in its line
//! records     files of any form -> texts, prompts with completions, or conversations
//! chat        conversations -> text, by a model's template
//! encoder     text -> ids: bytes as they are, or what a tokenizer.json makes of them; record_encoder: records -> ids, and
//!             which of them are trained on
//! token files ids in files, in the form of Megatron-LM's
//! token cache files -> token files, once for all runs
//! documents   what batches are read from: bytes or token files
//! cut         a document -> the sequences that fit the context, and what is lost
//! schedule    sequences, in a new order every epoch -> which make which global batch
//! blend       of several sources with weights, which is next
//! stream      the same where documents come one by one, in their order
//! position    how far they are drawn: where a run resumes
//! fingerprint what tells whether two runs draw the same batches; content: whether the documents are the same
//! batches     the global batches of a corpus, read
//! ```
//!
//! ```
//! use lengthwise_core::Tokens;
//! use lengthwise_data::{BatchSize, Batches, Corpus, CutRule, Overlong};
//!
//! let source = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
//! let rule = CutRule { context: Tokens(4096), overlong: Overlong::Split, min_tokens: Tokens(1) };
//! let open = || {
//!     let corpus = Corpus::open(std::slice::from_ref(&source), &["rs".to_owned()])?;
//!     Batches::new(corpus, rule, BatchSize::Tokens(Tokens(16_384)), 0)
//! };
//! let mut batches = open()?;
//! let batch = batches.next().expect("batches never end")?;
//! assert!(batch.global_batch().num_tokens() <= Tokens(16_384));
//!
//! // Another run goes on where this one is.
//! let mut resumed = open()?.starting_at(batches.position())?;
//! assert_eq!(resumed.next().unwrap()?, batches.next().unwrap()?);
//! # Ok::<(), lengthwise_data::DataError>(())
//! ```

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests write what is read")
)]

mod batch_size;
mod batches;
mod blend;
pub mod chat;
mod content;
mod corpus;
mod cut;
mod documents;
mod encoded_document;
mod encoder;
mod error;
mod excerpt;
mod files;
mod fingerprint;
mod jsonl;
mod landmarks;
mod pattern;
mod pieces;
mod position;
mod record_encoder;
pub mod records;
mod schedule;
mod special_tokens;
mod stream;
pub mod token_cache;
mod token_documents;
pub mod token_files;
mod token_sequence;
mod tokenizer;
mod tokenizer_file;
mod whole_file;

pub use batch_size::BatchSize;
pub use batches::Batches;
pub use content::ContentFingerprint;
pub use corpus::Corpus;
pub use cut::{Census, CutRule, Overlong};
pub use documents::Documents;
pub use encoded_document::EncodedDocument;
pub use encoder::TextEncoder;
pub use error::DataError;
pub use excerpt::{Excerpt, ScheduledBatch};
pub use fingerprint::DataFingerprint;
pub use position::Position;
pub use record_encoder::RecordEncoder;
pub use schedule::{BatchSchedule, Order, WeightedDocuments};
pub use stream::{BatchStream, StreamPosition};
pub use token_documents::{OpenedTokens, TokenDocuments};
pub use token_sequence::{BatchOrigin, TokenBatch, TokenSequence};
pub use tokenizer::ByteTokenizer;
pub use tokenizer_file::{SpecialTokens, TokenizerFile, TokenizerOptions};
