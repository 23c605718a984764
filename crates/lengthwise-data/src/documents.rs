//! Documents that batches are read from: bytes where they are, or ids in files.

use std::ops::Range;

use crate::{ByteTokenizer, Corpus, DataError, TokenDocuments, TokenSequence};

/// The documents of a corpus, read when they are needed. Only their places and lengths are in memory.
#[derive(Debug)]
pub enum Documents {
    /// Files whose bytes are the ids.
    Bytes(Corpus),
    /// Files of ids.
    Tokens(TokenDocuments),
    /// Those of several sources, one after another.
    Several(Vec<Documents>),
}

impl Documents {
    /// How many documents there are.
    pub fn num_documents(&self) -> usize {
        match self {
            Documents::Bytes(corpus) => corpus.num_documents(),
            Documents::Tokens(tokens) => tokens.num_documents(),
            Documents::Several(sources) => sources.iter().map(Documents::num_documents).sum(),
        }
    }

    /// How many ids of each document are predicted, in order; none of an empty one.
    pub fn num_targets(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.num_documents()).map(|document| self.num_targets_of(document))
    }

    fn num_targets_of(&self, document: usize) -> u64 {
        match self {
            Documents::Bytes(corpus) => match corpus.num_bytes(document) {
                0 => 0,
                num_bytes => ByteTokenizer::num_tokens(num_bytes),
            },
            Documents::Tokens(tokens) => tokens.num_targets(document),
            Documents::Several(_) => {
                let found = self.find(document);
                found.map_or(0, |(source, document)| source.num_targets_of(document))
            }
        }
    }

    /// The source of a document, and its number there; none beyond the last.
    fn find(&self, document: usize) -> Option<(&Documents, usize)> {
        let Documents::Several(sources) = self else {
            return Some((self, document));
        };
        let mut left = document;
        for source in sources {
            match left.checked_sub(source.num_documents()) {
                Some(rest) => left = rest,
                None => return Some((source, left)),
            }
        }
        None
    }

    /// Where a document is: its file, and the row in it where the file has several.
    pub fn place(&self, document: usize) -> Option<String> {
        match self {
            Documents::Bytes(corpus) => corpus.place(document),
            Documents::Tokens(tokens) => tokens.place(document),
            Documents::Several(_) => {
                let (source, document) = self.find(document)?;
                source.place(document)
            }
        }
    }

    /// How many files they are in.
    pub fn num_files(&self) -> usize {
        match self {
            Documents::Bytes(corpus) => corpus.num_files(),
            Documents::Tokens(tokens) => tokens.num_sources(),
            Documents::Several(sources) => sources.iter().map(Documents::num_files).sum(),
        }
    }

    /// How often a file was met again and not taken a second time.
    pub fn num_repeated_files(&self) -> u64 {
        match self {
            Documents::Bytes(corpus) => corpus.num_repeated_files(),
            Documents::Tokens(tokens) => tokens.num_repeated_files(),
            Documents::Several(sources) => sources.iter().map(Documents::num_repeated_files).sum(),
        }
    }

    /// Rows that were left out since they are broken, and what is wrong with one of them.
    pub fn skipped(&self) -> (u64, Option<&str>) {
        match self {
            Documents::Bytes(_) => (0, None),
            Documents::Tokens(tokens) => tokens.skipped(),
            Documents::Several(sources) => {
                let first = sources.iter().find_map(|source| source.skipped().1);
                (sources.iter().map(|source| source.skipped().0).sum(), first)
            }
        }
    }

    /// Some targets of a document, with the id that comes before them.
    ///
    /// # Errors
    ///
    /// They can't be read, or are no longer what they were; or a check in the background has found something.
    pub(crate) fn read(
        &self,
        document: usize,
        targets: Range<u64>,
    ) -> Result<TokenSequence, DataError> {
        match self {
            Documents::Bytes(corpus) => {
                let num_bytes = corpus.num_bytes(document);
                let bytes = ByteTokenizer::bytes_of(&targets, num_bytes);
                let bytes = corpus.read(document, bytes)?;
                Ok(ByteTokenizer::sequence(&targets, num_bytes, &bytes))
            }
            Documents::Tokens(tokens) => tokens.read(document, targets),
            Documents::Several(_) => match self.find(document) {
                Some((source, document)) => source.read(document, targets),
                None => Err(DataError::Exhausted),
            },
        }
    }
}

impl From<Corpus> for Documents {
    fn from(corpus: Corpus) -> Self {
        Documents::Bytes(corpus)
    }
}

impl From<TokenDocuments> for Documents {
    fn from(tokens: TokenDocuments) -> Self {
        Documents::Tokens(tokens)
    }
}
