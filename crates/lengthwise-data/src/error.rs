//! Errors that keep a corpus from giving a batch.

use std::io;
use std::path::PathBuf;

use lengthwise_core::Tokens;
use lengthwise_core::limits::Limit;
use thiserror::Error;

use crate::Position;

/// An error that keeps a corpus from giving a batch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory that is not there or can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A device, socket or the like.
    #[error("{} is neither a file nor a directory", path.display())]
    NeitherFileNorDirectory {
        /// The path as it was named.
        path: PathBuf,
    },
    /// A file whose bytes are no text to train on.
    #[error("{} is a .{extension} file; documents are read from text, JSONL and Parquet", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// Its ending.
        extension: &'static str,
    },
    /// A directory without documents.
    #[error("no file under {} has one of the extensions {}", path.display(), extensions.join(", "))]
    NoFiles {
        /// The directory.
        path: PathBuf,
        /// The extensions looked for.
        extensions: Vec<String>,
    },
    /// A line of a JSONL file that is no document.
    #[error("{}:{line}: {reason}; each line must be an object with a string `text`", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// The fault of the line.
        reason: String,
    },
    /// Bytes that are not the text a tokenizer needs.
    #[error("byte {} of it is not UTF-8", offset + 1)]
    NotUtf8 {
        /// Offset of the first such byte, counted from 0.
        offset: u64,
    },
    /// A row of a file that is no record.
    #[error("{place}: {reason}; {rule}")]
    BadRow {
        /// The file, and the row, counted from 1, where it has several.
        place: String,
        /// Its fault.
        reason: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// A packed file that can't be unpacked to its end.
    #[error("{}: what this .{ending} file holds after row {num_rows} can't be unpacked: {source}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Its ending.
        ending: &'static str,
        /// Rows that were unpacked before.
        num_rows: u64,
        /// The error of the decoder.
        source: io::Error,
    },
    /// A Parquet file that can't be read to its end.
    #[error("{place}: this is no whole Parquet file: {reason}")]
    Table {
        /// The file, and the row from which on it can't be read.
        place: String,
        /// The error of the decoder.
        reason: String,
    },
    /// A Parquet file whose pages are packed in a way that is not read.
    #[error(
        "{}: column `{column}` is packed as {codec}; columns are read that are packed as SNAPPY, GZIP or ZSTD, or not at all",
        path.display()
    )]
    TableCodec {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How it is packed.
        codec: String,
    },
    /// A Parquet file that was packed again.
    #[error("{} is a Parquet file packed as .{ending}; Parquet is read from its end, which is not known before it is unpacked", path.display())]
    PackedTable {
        /// The file.
        path: PathBuf,
        /// Its ending.
        ending: &'static str,
    },
    /// A table without the column that is asked for.
    #[error("{} has no column `{column}`; it has {}", path.display(), columns.join(", "))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns that the table has.
        columns: Vec<String>,
    },
    /// A column that holds something else.
    #[error("{}: column `{column}` is {found}; it must hold {wanted}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Type of the column.
        found: String,
        /// Type that the column must have.
        wanted: &'static str,
    },
    /// A text file where fields are asked for.
    #[error("{} is a text file, which has no fields; each record must be {wanted}", path.display())]
    TextWithoutFields {
        /// The file.
        path: PathBuf,
        /// The fields that each record must have.
        wanted: String,
    },
    /// A pattern that matches no file.
    #[error("no file matches {pattern}")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A pattern that can't be read.
    #[error("{pattern} is no pattern of paths: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Its fault.
        reason: String,
    },
    /// A chat template that can't be used.
    #[error("{name}: this is no chat template: {reason}")]
    ChatTemplate {
        /// Name of the template.
        name: String,
        /// Its fault.
        reason: String,
    },
    /// A model without a chat template.
    #[error("{} has no chat template, neither in chat_template.jinja nor in tokenizer_config.json", directory.display())]
    NoChatTemplate {
        /// The model's directory.
        directory: PathBuf,
    },
    /// A conversation, and no chat template.
    #[error("{place}: conversations need a chat template, and there is no model that has one")]
    NoTemplate {
        /// The record.
        place: String,
    },
    /// A chat template that does not tell which tokens are the answer.
    #[error("{place}: {reason}")]
    NoAnswer {
        /// The record.
        place: String,
        /// The template, and why.
        reason: String,
    },
    /// A file that no longer has the documents it had.
    #[error("{} changed during the run: {difference}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is otherwise than when the corpus was opened.
        difference: String,
    },
    /// A batch that could not be held.
    #[error("batches of {size} {what} were asked for; it must be {limit}")]
    BatchSize {
        /// Tokens or sequences.
        what: &'static str,
        /// How many.
        size: u64,
        /// How many there may be.
        limit: Limit<u64>,
    },
    /// More documents than can be numbered.
    #[error("the corpus has more than {} documents or files", u32::MAX)]
    TooManyDocuments,
    /// Documents of which no sequence is left.
    #[error(
        "the corpus gives no sequence (documents: {num_documents}; empty: {num_empty}; skipped for more than context = \
         {context} tokens: {num_overlong}; sequences shorter than min_tokens: {num_short})"
    )]
    NoSequences {
        /// Documents of the corpus.
        num_documents: u64,
        /// Those without a byte.
        num_empty: u64,
        /// Those skipped for their length.
        num_overlong: u64,
        /// Sequences left out because they are too short.
        num_short: u64,
        /// The longest sequence allowed.
        context: Tokens,
    },
    /// A weight of a source that is none.
    #[error(
        "source {source_number} of the data has the weight {weight}; weights are numbers above 0"
    )]
    Weight {
        /// Counted from 1.
        source_number: usize,
        /// Its weight.
        weight: f64,
    },
    /// A source of which no sequence is left, beside others.
    #[error(
        "source {source_number} of the data gives no sequence; it has {num_documents} documents"
    )]
    EmptySource {
        /// Counted from 1.
        source_number: usize,
        /// Its documents.
        num_documents: u64,
    },
    /// A place that no run over the corpus comes to.
    #[error(
        "the batches can't start at {position}: epochs are counted from 1, and the corpus gives {num_sequences} \
         sequences an epoch"
    )]
    NoSuchPosition {
        /// The place.
        position: Position,
        /// The sequences of an epoch.
        num_sequences: u64,
    },
    /// A text that no tokenizer could hold in memory, and that can't be cut into parts that have the same ids.
    #[error(
        "it has {num_bytes} bytes that can't be cut; a tokenizer takes up to {most_bytes} at once"
    )]
    TextTooLong {
        /// Its bytes.
        num_bytes: u64,
        /// How many there may be.
        most_bytes: u64,
    },
    /// A tokenizer, or what stands beside it, that can't be used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Its fault.
        reason: String,
    },
    /// A tokenizer of which no file says which token ends a text.
    #[error(
        "no file beside {} says which token ends a text, neither eos_token of tokenizer_config.json or \
         special_tokens_map.json nor eos_token_id of generation_config.json or config.json",
        path.display()
    )]
    NoEndOfText {
        /// The tokenizer.
        path: PathBuf,
    },
    /// A token that a tokenizer does not have.
    #[error("{} has no token {token:?}, and no {vocab_size} tokens or more", path.display())]
    NoSuchToken {
        /// The tokenizer.
        path: PathBuf,
        /// The token as it was named.
        token: String,
        /// Number of its tokens.
        vocab_size: usize,
    },
    /// A file of ids, or one that goes with it, that contradicts itself or another.
    #[error("{}: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Its fault, and the rule that it breaks.
        reason: String,
    },
    /// An id in a file that the model does not know.
    #[error("{place}: it has the id {id}; the model knows ids from 0 to {}", vocab_size.saturating_sub(1))]
    NoSuchId {
        /// The document.
        place: String,
        /// The id.
        id: i64,
        /// Number of ids that the model knows.
        vocab_size: usize,
    },
    /// A document of more ids than a file of ids can count.
    #[error("a document has {num_ids} ids; a file of ids takes up to {most_ids} a document")]
    DocumentTooLong {
        /// Its ids.
        num_ids: u64,
        /// How many there may be.
        most_ids: u64,
    },
    /// A file that can't be written.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file that was changed while its documents were encoded.
    #[error("{} changed while it was read", path.display())]
    ChangedWhileRead {
        /// The file.
        path: PathBuf,
    },
    /// Kept ids that are no longer what was written.
    #[error(
        "{} is not what was written: its XXH3 is {found} and was {expected}",
        path.display()
    )]
    TokensChanged {
        /// The file.
        path: PathBuf,
        /// The hash of what was written.
        expected: String,
        /// The hash of what is there.
        found: String,
    },
    /// The source of batches ended before the last step.
    #[error("the batches ended before the last step")]
    Exhausted,
}

impl DataError {
    /// Whether only one row is bad, so that those after it can still be read.
    pub(crate) fn is_of_a_row(&self) -> bool {
        matches!(self, DataError::BadRow { .. })
    }

    /// Advice to the user, if there is any.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            DataError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; a relative path in a settings file starts from that file's directory"
            }
            DataError::NoText {
                extension: "json" | "ndjson",
                ..
            } => "write one JSON object a line to a .jsonl file",
            DataError::NoText {
                extension:
                    "xz" | "bz2" | "lz4" | "lzma" | "zstd" | "zip" | "7z" | "rar" | "tar" | "tgz"
                    | "tbz2" | "txz" | "gz" | "zst",
                ..
            } => "unpack it first, or pack it as .gz or .zst",
            DataError::NoText { .. } => {
                "convert it to text or JSONL first, or list only the extensions that are meant"
            }
            DataError::NoFiles { .. } => "list other extensions, or name the files themselves",
            DataError::BadLine { .. } => {
                r#"a good line is {"text": "a document"}; more keys are ignored"#
            }
            DataError::BadRow { .. } => {
                r#"correct the row; or name the field that is meant with data.text, data.prompt and data.completion, or data.messages; or leave out all rows like it with data.corrupt = "skip""#
            }
            DataError::Unpack { .. } | DataError::Table { .. } => {
                "get the file again: what is missing of it can't be skipped"
            }
            DataError::TableCodec { .. } => {
                "write the table again with one of them, for example with compression=\"zstd\" in pyarrow"
            }
            DataError::PackedTable { .. } => "unpack it first; its pages are packed already",
            DataError::NoColumn { .. } | DataError::ColumnType { .. } => {
                "name the column that is meant with data.text, data.prompt and data.completion, or data.messages"
            }
            DataError::TextWithoutFields { .. } => {
                "list only the extensions that are meant, such as jsonl and parquet, in data.extensions"
            }
            DataError::NoMatch { .. } => {
                "check the path; a relative path in a settings file starts from that file's directory; write [*] for a star \
                 that is part of a name"
            }
            DataError::BadPattern { .. } => {
                "write [*], [?] and [[] for characters that are part of a name"
            }
            DataError::NoChatTemplate { .. } | DataError::NoTemplate { .. } => {
                "name a Jinja template with data.chat_template, or a model that is made for conversations"
            }
            DataError::NoAnswer { .. } => {
                "give data.chat_template a copy of the template that has {% generation %} and {% endgeneration %} around what \
                 the assistant says"
            }
            DataError::Changed { .. } => "train on a copy that nothing writes to",
            DataError::Weight { .. } => "weights count in proportion: 7 and 3 are 0.7 and 0.3",
            DataError::EmptySource { .. } | DataError::NoSequences { .. } => {
                "raise the context, choose split or truncate for overlong documents, or lower min_tokens"
            }
            DataError::TokenFile { .. } | DataError::NoSuchId { .. } => {
                "token files must be as they were written, with the tokenizer of this model"
            }
            DataError::NoEndOfText { .. } | DataError::NoSuchToken { .. } => {
                "name the token that stands between documents with data.end_of_text, for example \"<|endoftext|>\""
            }
            DataError::TokensChanged { .. } => {
                "remove the file: what is missing is encoded again; if that happens often, check the disk"
            }
            DataError::Write { .. } => "name another place for the token cache with --cache",
            DataError::ChangedWhileRead { .. } => "train on a copy that nothing writes to",
            DataError::NoSuchPosition { .. } => {
                "resume with the corpus, the context and the rules that the run began with"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
