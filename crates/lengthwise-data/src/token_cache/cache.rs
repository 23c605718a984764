//! Token files that are kept already, and those that have to be made.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use super::encoding::{Encoded, EncodingProgress, encode};
use super::shard::Shard;
use super::source::{DocumentSource, Skipped};
use super::stale;
use crate::DataError;
use crate::token_files::{TokenFiles, TokenFilesWriter, TokenType, TokensAbout, with_ending};

/// A directory in which ids are kept.
///
/// Each shard of a corpus has files of its own there, named after the files it was made of and how: whatever of that
/// changes, others are made. They can be removed at any time. Those of files that have changed are removed when these are
/// encoded again; nothing else is removed by itself.
#[derive(Clone, Debug)]
pub struct TokenCache {
    directory: PathBuf,
    num_workers: usize,
}

/// The ids of a corpus.
#[derive(Debug)]
pub struct Cached {
    /// Those of the files, in order.
    pub files: Vec<TokenFiles>,
    /// How many of them had to be made.
    pub num_made: usize,
    /// Faults of files that had to be made again.
    pub warnings: Vec<String>,
    /// Bytes of files that were removed, since what they were made of has changed.
    pub num_removed_bytes: u64,
}

/// The form in which documents are made of records; another makes other files.
const FORM: &str = "lengthwise tokens 1";

impl TokenCache {
    /// The cache in a directory, which is made when something is to be kept.
    pub fn new(directory: &Path) -> Self {
        TokenCache {
            directory: directory.to_owned(),
            num_workers: thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// The same with so many threads for encoding; one for each core otherwise.
    #[must_use]
    pub fn with_workers(mut self, num_workers: usize) -> Self {
        self.num_workers = num_workers.max(1);
        self
    }

    /// The ids of some files, which are encoded unless they are kept already.
    ///
    /// # Errors
    ///
    /// A file can't be read or encoded, or changes meanwhile; ids can't be written.
    pub fn open<S: DocumentSource>(
        &self,
        paths: &[PathBuf],
        source: &S,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<Cached, DataError> {
        let encoding = format!(
            "{FORM}; begins with {:?}; {}",
            source.begins_with(),
            source.fingerprint()
        );
        let shards = Shard::of(paths)?;
        let mut warnings = Vec::new();
        let kept: Vec<Option<TokenFiles>> = shards
            .iter()
            .map(|shard| self.find(shard, &encoding, &mut warnings))
            .collect();
        let missing = || shards.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
        let num_made = missing().count();
        let mut so_far = EncodingProgress {
            num_bytes: 0,
            num_all_bytes: missing().map(|(shard, _)| shard.num_bytes()).sum(),
            num_documents: 0,
            num_ids: 0,
        };
        let mut files = Vec::with_capacity(shards.len());
        let mut num_removed_bytes = 0;
        for (shard, kept) in shards.into_iter().zip(kept) {
            files.push(match kept {
                Some(kept) => kept,
                None => {
                    let prefix = self.prefix(&shard, &encoding);
                    let made_of = shard.clone();
                    self.make(&prefix, shard, &encoding, source, &mut so_far, progress)?;
                    num_removed_bytes += stale::remove(&self.directory, &made_of);
                    TokenFiles::open(&prefix)?
                }
            });
        }
        Ok(Cached {
            files,
            num_made,
            warnings,
            num_removed_bytes,
        })
    }

    fn prefix(&self, shard: &Shard, encoding: &str) -> PathBuf {
        self.directory.join(shard.name(encoding))
    }

    /// The files of a shard, if they are there and whole.
    fn find(
        &self,
        shard: &Shard,
        encoding: &str,
        warnings: &mut Vec<String>,
    ) -> Option<TokenFiles> {
        let prefix = self.prefix(shard, encoding);
        // Written last, it says that all are there.
        if !with_ending(&prefix, "json").exists() {
            return None;
        }
        let kept = TokenFiles::open(&prefix).and_then(|kept| check_sizes(&kept).map(|()| kept));
        match kept {
            Ok(kept) => {
                let about = kept.about()?;
                (about.encoding == encoding && shard.is_of(&about.sources)).then_some(kept)
            }
            Err(error) => {
                warnings.push(format!("kept tokens are encoded again: {error}"));
                None
            }
        }
    }

    fn make<S: DocumentSource>(
        &self,
        prefix: &Path,
        mut shard: Shard,
        encoding: &str,
        source: &S,
        so_far: &mut EncodingProgress,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<(), DataError> {
        lengthwise_outputs::make_directory(&self.directory).map_err(|source| DataError::Write {
            path: self.directory.clone(),
            source,
        })?;
        let token_type = TokenType::for_vocabulary(source.vocab_size());
        let mut writer = TokenFilesWriter::create(prefix, token_type)?;
        let paths: Vec<PathBuf> = shard.sources.iter().map(|file| file.path.clone()).collect();
        let begun_at = so_far.num_bytes;
        // Of files that are finished, and of the one that is not.
        let (mut num_finished, mut current, mut num_current) = (0u64, 0usize, 0u64);
        let skipped_before = source.skipped().num_rows;
        encode(source, &paths, self.num_workers, |encoded: Encoded| {
            while current < encoded.file {
                num_finished += shard.sources[current].num_bytes;
                current += 1;
                num_current = 0;
            }
            num_current += encoded.num_bytes as u64;
            writer.add(&encoded.document, encoded.row)?;
            let of_file = &mut shard.sources[encoded.file];
            of_file.num_documents += 1;
            // A packed file holds more than its size.
            so_far.num_bytes = begun_at + num_finished + num_current.min(of_file.num_bytes);
            so_far.num_documents += 1;
            so_far.num_ids += encoded.document.ids.len() as u64;
            progress(*so_far);
            Ok(())
        })?;
        for file in &shard.sources {
            if !file.is_unchanged()? {
                return Err(DataError::ChangedWhileRead {
                    path: file.path.clone(),
                });
            }
        }
        so_far.num_bytes = begun_at + shard.num_bytes();
        progress(*so_far);
        let Skipped { num_rows, example } = source.skipped();
        let num_skipped = num_rows.saturating_sub(skipped_before);
        let about = TokensAbout {
            encoding: encoding.to_owned(),
            begins_with: source.begins_with(),
            sources: shard.sources,
            num_skipped,
            skipped_example: example.filter(|_| num_skipped > 0),
            ..TokensAbout::default()
        };
        writer.finish_with(about).map(|_| ())
    }
}

/// Whether all files have the sizes that they were written with.
fn check_sizes(kept: &TokenFiles) -> Result<(), DataError> {
    for file in kept.about().into_iter().flat_map(|about| &about.files) {
        let path = with_ending(kept.prefix(), &file.ending);
        let metadata = path.metadata().map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
        if metadata.len() != file.num_bytes {
            return Err(DataError::TokenFile {
                path,
                reason: format!(
                    "it has {} bytes; {} were written",
                    metadata.len(),
                    file.num_bytes
                ),
            });
        }
    }
    Ok(())
}
