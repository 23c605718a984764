//! Token files, read where they are needed.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::about::{TokensAbout, VERSION};
use super::index::TokenIndex;
use super::mask::{num_mask_bytes, read_mask};
use super::positional::ReadAt;
use super::with_ending;
use crate::{DataError, TokenSequence, whole_file};

/// The documents of a pair of `.bin` and `.idx`. Only where they begin is in memory.
#[derive(Debug)]
pub struct TokenFiles {
    prefix: PathBuf,
    bin: File,
    index: TokenIndex,
    mask: Option<File>,
    rows: Option<File>,
    begins_with: Option<u32>,
    about: Option<TokensAbout>,
    /// For each source the documents up to its end.
    source_ends: Vec<u64>,
}

impl TokenFiles {
    /// Opens the files of a prefix and checks their structure; of ids none is read.
    ///
    /// # Errors
    ///
    /// They can't be read, or don't fit each other.
    pub fn open(prefix: &Path) -> Result<Self, DataError> {
        let open = |ending: &str| -> Result<(PathBuf, File, u64), DataError> {
            let path = with_ending(prefix, ending);
            let opened = File::open(&path).and_then(|file| {
                let metadata = file.metadata()?;
                match metadata.is_file() {
                    true => Ok((file, metadata.len())),
                    false => Err(io::Error::other("it is no file")),
                }
            });
            match opened {
                Ok((file, num_bytes)) => Ok((path, file, num_bytes)),
                Err(source) => Err(DataError::Read { path, source }),
            }
        };
        let optional = |ending: &str, num_bytes: u64| match open(ending) {
            Ok((path, _, found)) if found != num_bytes => Err(DataError::TokenFile {
                path,
                reason: format!("it has {found} bytes; for this index it must have {num_bytes}"),
            }),
            Ok((_, file, _)) => Ok(Some(file)),
            Err(DataError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        let (_, bin, num_bin_bytes) = open("bin")?;
        let (path, file, num_bytes) = open("idx")?;
        let index = TokenIndex::read(&path, &file, num_bytes, num_bin_bytes)?;
        let about = read_about(prefix)?;
        // Of files that were made of others it is known whether there are more.
        let has = |ending: &str| {
            let files = about.as_ref().map(|about| &about.files);
            files.is_none_or(|files| files.iter().any(|file| file.ending == ending))
        };
        let mut mask = None;
        if has("mask") {
            mask = optional("mask", num_mask_bytes(index.num_ids()))?;
        }
        let mut rows = None;
        if has("rows") {
            rows = optional("rows", 8 * index.num_documents() as u64)?;
        }
        let mut source_ends = Vec::new();
        if let Some(about) = &about {
            let mut end = 0u64;
            source_ends.extend(about.sources.iter().map(|source| {
                end = end.saturating_add(source.num_documents);
                end
            }));
            if end != index.num_documents() as u64 {
                return Err(DataError::TokenFile {
                    path: with_ending(prefix, "json"),
                    reason: format!(
                        "its sources have {end} documents; the index has {}",
                        index.num_documents()
                    ),
                });
            }
        }
        Ok(TokenFiles {
            prefix: prefix.to_owned(),
            bin,
            index,
            mask,
            rows,
            begins_with: about.as_ref().and_then(|about| about.begins_with),
            about,
            source_ends,
        })
    }

    /// Description of their sources, if there is one.
    pub fn about(&self) -> Option<&TokensAbout> {
        self.about.as_ref()
    }

    /// Common beginning of their paths.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// How many documents there are.
    pub fn num_documents(&self) -> usize {
        self.index.num_documents()
    }

    /// How many ids of a document are predicted: all but the first of them, or all where something is put before them.
    ///
    /// # Panics
    ///
    /// There is no such document.
    pub fn num_targets(&self, document: usize) -> u64 {
        let ids = self.index.ids(document);
        let num_ids = ids.end - ids.start;
        match self.begins_with {
            Some(_) => num_ids,
            None => num_ids.saturating_sub(1),
        }
    }

    /// Source of a document: its file and the row in it, or its number here.
    pub fn place(&self, document: usize) -> Option<String> {
        if document >= self.num_documents() {
            return None;
        }
        let source = self
            .source_ends
            .partition_point(|&end| end <= document as u64);
        let source = self
            .about
            .as_ref()
            .and_then(|about| about.sources.get(source));
        let Some(source) = source else {
            let path = with_ending(&self.prefix, "bin");
            return Some(format!("{} document {document}", path.display()));
        };
        let path = source.path.display();
        let mut row = [0; 8];
        let read = self
            .rows
            .as_ref()
            .map(|rows| rows.read_exact_at(&mut row, 8 * document as u64));
        Some(match (read, u64::from_le_bytes(row)) {
            (Some(Ok(())), row) if row > 0 => format!("{path}:{row}"),
            _ => path.to_string(),
        })
    }

    /// Some targets of a document, with the id that comes before them.
    ///
    /// # Errors
    ///
    /// They can't be read, or are no ids below `vocab_size`.
    pub fn read(
        &self,
        document: usize,
        targets: Range<u64>,
        vocab_size: usize,
    ) -> Result<TokenSequence, DataError> {
        let unreadable = |ending: &str| {
            let path = with_ending(&self.prefix, ending);
            move |source| DataError::Read { path, source }
        };
        let stored = self.index.ids(document);
        // As targets are counted, with what is put before a document, its ids from `first` on are read.
        let (first, before) = match (self.begins_with, targets.start) {
            (Some(id), 0) => (0, Some(id)),
            (Some(_), start) => (start - 1, None),
            (None, start) => (start, None),
        };
        let shift = u64::from(self.begins_with.is_none());
        let last = targets.end + shift;
        let (from, to) = (stored.start + first, (stored.start + last).min(stored.end));

        let token_type = self.index.token_type;
        let mut bytes = vec![0; ((to - from) * token_type.num_bytes()) as usize];
        self.bin
            .read_exact_at(&mut bytes, from * token_type.num_bytes())
            .map_err(unreadable("bin"))?;
        let mut ids = Vec::with_capacity((to - from) as usize + 1);
        ids.extend(before);
        let decoded = token_type.decode(&bytes, &mut ids);
        let wrong = ids.iter().position(|&id| id as usize >= vocab_size);
        let wrong = match (wrong, decoded) {
            (Some(at), _) => Some(i64::from(ids[at])),
            (None, Err(number)) => Some(number),
            (None, Ok(())) => None,
        };
        if let Some(id) = wrong {
            return Err(DataError::NoSuchId {
                place: self.place(document).unwrap_or_default(),
                id,
                vocab_size,
            });
        }
        let Some(mask) = &self.mask else {
            return Ok(TokenSequence::new(ids.into()));
        };
        let labels = to - (targets.end - targets.start)..to;
        let is_label = read_mask(mask, labels).map_err(unreadable("mask"))?;
        Ok(match is_label.iter().all(|&is_label| is_label) {
            true => TokenSequence::new(ids.into()),
            false => TokenSequence::masked(ids.into(), is_label.into()),
        })
    }
}

fn read_about(prefix: &Path) -> Result<Option<TokensAbout>, DataError> {
    let path = with_ending(prefix, "json");
    let Some(bytes) = whole_file::read_optional(&path)? else {
        return Ok(None);
    };
    let about: Result<TokensAbout, serde_json::Error> = serde_json::from_slice(&bytes);
    let reason = match about {
        Ok(about) if about.version == VERSION => return Ok(Some(about)),
        Ok(about) => format!("its version is {}; {VERSION} is read", about.version),
        Err(error) => error.to_string(),
    };
    Err(DataError::TokenFile { path, reason })
}

/// XXH3-64 of a file in hexadecimal, read piece by piece; `None` if `goes_on` has said that it need not be known.
pub(crate) fn hash_of(path: &Path, goes_on: &dyn Fn() -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut hasher = XxHash3_64::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if !goes_on() {
            return Ok(None);
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(num_bytes) => std::hash::Hasher::write(&mut hasher, &buffer[..num_bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(format!("{:016x}", std::hash::Hasher::finish(&hasher))))
}
