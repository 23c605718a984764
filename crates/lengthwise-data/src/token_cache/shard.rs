//! Files whose ids are kept together.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(not(unix))]
use std::time::UNIX_EPOCH;

use twox_hash::XxHash3_128;

use crate::DataError;
use crate::token_files::SourceFile;

/// Files are kept together up to so many bytes, so that many small ones need few files of ids.
const SHARD_BYTES: u64 = 256 << 20;

/// Files that follow one another in a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// At least one; none has been counted yet.
    pub sources: Vec<SourceFile>,
}

impl SourceFile {
    /// The present state of a file.
    pub(crate) fn of(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let real_path = fs::canonicalize(path).map_err(unreadable)?;
        let metadata = fs::metadata(path).map_err(unreadable)?;
        Ok(SourceFile {
            path: real_path,
            num_bytes: metadata.len(),
            changed_ns: changed_ns(&metadata),
            inode: inode(&metadata),
            num_documents: 0,
        })
    }

    /// Whether this is another in the same state, however many documents were counted in it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.path, self.num_bytes, self.changed_ns, self.inode)
            == (&other.path, other.num_bytes, other.changed_ns, other.inode)
    }

    /// Whether a file is still what it was.
    pub(crate) fn is_unchanged(&self) -> Result<bool, DataError> {
        Ok(SourceFile::of(&self.path)?.is_same(self))
    }
}

#[cfg(unix)]
fn changed_ns(metadata: &fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt;
    let seconds = metadata.ctime().saturating_mul(1_000_000_000);
    seconds.saturating_add(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed_ns(metadata: &fs::Metadata) -> i64 {
    let modified = metadata.modified().ok();
    modified.map_or(0, |modified| match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    })
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

impl Shard {
    /// Files in their order, put together where they are small.
    pub fn of(paths: &[PathBuf]) -> Result<Vec<Self>, DataError> {
        let mut shards: Vec<Shard> = Vec::new();
        let mut num_bytes = 0u64;
        for path in paths {
            let source = SourceFile::of(path)?;
            num_bytes = num_bytes.saturating_add(source.num_bytes);
            match shards.last_mut().filter(|_| num_bytes <= SHARD_BYTES) {
                Some(shard) => shard.sources.push(source),
                None => {
                    num_bytes = source.num_bytes;
                    let sources = vec![source];
                    shards.push(Shard { sources });
                }
            }
        }
        Ok(shards)
    }

    /// The bytes of all files.
    pub fn num_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.num_bytes).sum()
    }

    /// A name that another shard, or the same in another encoding, does not have.
    pub fn name(&self, encoding: &str) -> String {
        let mut hasher = XxHash3_128::new();
        let mut add = |bytes: &[u8]| {
            hasher.write(&(bytes.len() as u64).to_le_bytes());
            hasher.write(bytes);
        };
        add(encoding.as_bytes());
        for source in &self.sources {
            add(source.path.as_os_str().as_encoded_bytes());
            add(&source.num_bytes.to_le_bytes());
            add(&source.changed_ns.to_le_bytes());
            add(&source.inode.to_le_bytes());
        }
        format!("{:032x}", hasher.finish_128())
    }

    /// Whether these are the sources of files that were written.
    pub fn is_of(&self, sources: &[SourceFile]) -> bool {
        let mut pairs = self.sources.iter().zip(sources);
        self.sources.len() == sources.len() && pairs.all(|(own, other)| own.is_same(other))
    }
}
