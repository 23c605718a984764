//! Token files, written document by document.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use lengthwise_outputs::{FileOutput, OpenFile};
use twox_hash::XxHash3_64;

use super::about::{FileHash, TokensAbout};
use super::element::TokenType;
use super::index::TokenIndex;
use super::mask::Bits;
use super::with_ending;
use crate::{DataError, EncodedDocument};

/// Bytes that are handed to the system at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Token files that grow: under other names until all are whole.
#[derive(Debug)]
pub struct TokenFilesWriter {
    prefix: PathBuf,
    token_type: TokenType,
    bin: HashedFile,
    /// Begun with the first document that is not trained on as a whole.
    mask: Option<(HashedFile, Bits)>,
    lens: Vec<u32>,
    rows: Vec<u64>,
    num_ids: u64,
    bytes: Vec<u8>,
}

/// The token files that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTokens {
    /// Each file.
    pub files: Vec<FileHash>,
    /// How many documents they hold.
    pub num_documents: u64,
    /// How many ids.
    pub num_ids: u64,
}

/// A file whose bytes are hashed while they are written.
#[derive(Debug)]
struct HashedFile {
    path: PathBuf,
    ending: &'static str,
    file: BufWriter<OpenFile>,
    num_bytes: u64,
    hasher: Hash,
}

/// The state of a hash, which has nothing to show.
struct Hash(XxHash3_64);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl HashedFile {
    fn create(prefix: &Path, ending: &'static str) -> Result<Self, DataError> {
        let path = with_ending(prefix, ending);
        let failed = |source| DataError::Write {
            path: path.clone(),
            source,
        };
        let opened = OpenFile::create(&path).map_err(failed)?;
        Ok(HashedFile {
            ending,
            file: BufWriter::with_capacity(CHUNK_BYTES, opened),
            num_bytes: 0,
            hasher: Hash(XxHash3_64::new()),
            path,
        })
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::Write {
            path: self.path.clone(),
            source,
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.write_all(bytes).map_err(|error| self.failed(error))
    }

    /// Gives it its place.
    fn finish(self) -> Result<FileHash, DataError> {
        let path = self.path;
        let failed = |source| DataError::Write {
            path: path.clone(),
            source,
        };
        let file = self.file.into_inner();
        let file = file.map_err(|error| failed(error.into_error()))?;
        file.finish_there().map_err(failed)?;
        Ok(FileHash {
            ending: self.ending.to_owned(),
            num_bytes: self.num_bytes,
            xxh3: format!("{:016x}", std::hash::Hasher::finish(&self.hasher.0)),
        })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        std::hash::Hasher::write(&mut self.hasher.0, &bytes[..written]);
        self.num_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TokenFilesWriter {
    /// Begins files of this prefix.
    ///
    /// # Errors
    ///
    /// They can't be written.
    pub fn create(prefix: &Path, token_type: TokenType) -> Result<Self, DataError> {
        Ok(TokenFilesWriter {
            prefix: prefix.to_owned(),
            token_type,
            bin: HashedFile::create(prefix, "bin")?,
            mask: None,
            lens: Vec::new(),
            rows: Vec::new(),
            num_ids: 0,
            bytes: Vec::new(),
        })
    }

    /// Adds a document; `row` is where it is in its file, for one of several.
    ///
    /// # Errors
    ///
    /// It can't be written, or has more ids than the index can count.
    pub fn add(&mut self, document: &EncodedDocument, row: Option<u64>) -> Result<(), DataError> {
        let len = document.ids.len() as u64;
        let most = i32::MAX as u64;
        if len > most {
            return Err(DataError::DocumentTooLong {
                num_ids: len,
                most_ids: most,
            });
        }
        self.bytes.clear();
        for &id in &document.ids {
            self.token_type.encode(id, &mut self.bytes);
        }
        self.bin.add(&self.bytes)?;
        if let Some(row) = row {
            // Those before it that are no rows of a file.
            self.rows.resize(self.lens.len(), 0);
            self.rows.push(row);
        }
        self.lens.push(len as u32);
        let is_new = self.mask.is_none() && document.is_label.is_some();
        if is_new {
            self.mask = Some((HashedFile::create(&self.prefix, "mask")?, Bits::default()));
            let num_before = self.num_ids;
            self.mark(std::iter::repeat_n(true, num_before as usize))?;
        }
        self.num_ids += len;
        match &document.is_label {
            Some(is_label) => self.mark(is_label.iter().copied()),
            None => self.mark(std::iter::repeat_n(true, document.ids.len())),
        }
    }

    fn mark(&mut self, is_label: impl Iterator<Item = bool>) -> Result<(), DataError> {
        let Some((file, bits)) = &mut self.mask else {
            return Ok(());
        };
        for (index, is_label) in is_label.enumerate() {
            bits.push(is_label);
            if (index + 1).is_multiple_of(8 * CHUNK_BYTES) {
                file.add(&bits.take_full())?;
            }
        }
        file.add(&bits.take_full())
    }

    /// How many documents there are.
    pub fn num_documents(&self) -> u64 {
        self.lens.len() as u64
    }

    /// Gives all files their places, whole and on the disk; the index comes last.
    ///
    /// # Errors
    ///
    /// They can't be written.
    pub fn finish(self) -> Result<WrittenTokens, DataError> {
        let mut files = vec![self.bin.finish()?];
        if let Some((mut file, bits)) = self.mask {
            file.add(&bits.finish())?;
            files.push(file.finish()?);
        }
        if !self.rows.is_empty() {
            let mut file = HashedFile::create(&self.prefix, "rows")?;
            let zeros = std::iter::repeat_n(0, self.lens.len() - self.rows.len());
            for row in self.rows.into_iter().chain(zeros) {
                file.add(&row.to_le_bytes())?;
            }
            files.push(file.finish()?);
        }
        let mut index = HashedFile::create(&self.prefix, "idx")?;
        let written = TokenIndex::write(self.token_type, &self.lens, &mut index);
        written.map_err(|error| index.failed(error))?;
        files.push(index.finish()?);
        Ok(WrittenTokens {
            files,
            num_documents: self.lens.len() as u64,
            num_ids: self.num_ids,
        })
    }

    /// The same, and after them a file that says where they come from and what they hash to.
    ///
    /// # Errors
    ///
    /// They can't be written.
    pub fn finish_with(self, about: TokensAbout) -> Result<WrittenTokens, DataError> {
        let path = with_ending(&self.prefix, "json");
        let written = self.finish()?;
        let about = TokensAbout {
            files: written.files.clone(),
            ..about
        };
        let json = serde_json::to_vec_pretty(&about).map_err(io::Error::from);
        let output = || FileOutput::at(&path);
        json.and_then(|json| output()?.write_there(&json))
            .map_err(|source| DataError::Write {
                path: path.clone(),
                source,
            })?;
        Ok(written)
    }
}
