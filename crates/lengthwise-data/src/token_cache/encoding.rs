//! Records to ids on all cores, in the order of the files.
//!
//! ```text
//! one thread reads records --chunks--> workers encode them --any order--> the caller writes them in order
//!        ^                                                                  |
//!        +------------------------ as many chunks at once as are allowed ---+
//! ```

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::source::DocumentSource;
use crate::{DataError, EncodedDocument};

/// A chunk is sent once its records have so many bytes, or are so many.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_RECORDS: usize = 1024;

/// Chunks that are somewhere between reader and writer, for each worker.
const CHUNKS_PER_WORKER: usize = 4;

/// How far encoding has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingProgress {
    /// Of the files that are encoded.
    pub num_bytes: u64,
    /// Of all files that have to be.
    pub num_all_bytes: u64,
    /// Documents that were encoded.
    pub num_documents: u64,
    /// Their ids.
    pub num_ids: u64,
}

/// A record of the file with this number.
struct Numbered<T> {
    file: usize,
    row: Option<u64>,
    content: T,
}

/// A document, where it is, and how large its record was.
pub(crate) struct Encoded {
    pub file: usize,
    pub document: EncodedDocument,
    pub row: Option<u64>,
    pub num_bytes: usize,
}

/// Records that follow one another; the last one is why there are no more, if they ended early.
type Chunk<T> = Vec<Result<Numbered<T>, DataError>>;

/// Encodes the records of all files and hands their documents to `write` one by one, in order.
///
/// # Errors
///
/// The first in the order of the files.
pub(crate) fn encode<S: DocumentSource>(
    source: &S,
    paths: &[PathBuf],
    num_workers: usize,
    mut write: impl FnMut(Encoded) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let num_workers = num_workers.max(1);
    let (permit, permits) = mpsc::channel::<()>();
    let (work, works) = mpsc::channel::<(usize, Chunk<S::Record>)>();
    let (done, dones) = mpsc::channel::<(usize, Vec<Result<Encoded, DataError>>)>();
    let works = &Mutex::new(works);
    for _ in 0..num_workers * CHUNKS_PER_WORKER {
        // Its receiver is here.
        let _ = permit.send(());
    }
    // What the writer holds goes with it, and with that all threads.
    thread::scope(move |scope| {
        scope.spawn(move || {
            Reader {
                source,
                work,
                permits,
                chunk: Vec::new(),
                num_bytes: 0,
                number: 0,
            }
            .read_all(paths);
        });
        for _ in 0..num_workers {
            let done = done.clone();
            scope.spawn(move || {
                while let Some((number, chunk)) = next(works) {
                    if done.send((number, encode_chunk(source, chunk))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (number, chunk) in &dones {
            waiting.insert(number, chunk);
            while let Some(chunk) = waiting.remove(&next) {
                next += 1;
                for encoded in chunk {
                    write(encoded?)?;
                }
                let _ = permit.send(());
            }
        }
        Ok(())
    })
}

fn next<T>(works: &Mutex<Receiver<T>>) -> Option<T> {
    let works = works.lock().unwrap_or_else(PoisonError::into_inner);
    works.recv().ok()
}

fn encode_chunk<S: DocumentSource>(
    source: &S,
    chunk: Chunk<S::Record>,
) -> Vec<Result<Encoded, DataError>> {
    let mut encoded = Vec::with_capacity(chunk.len());
    for record in chunk {
        let document = record.and_then(|Numbered { file, row, content }| {
            let num_bytes = source.num_bytes(&content);
            let document = source.encode(content)?;
            Ok(document.map(|document| Encoded {
                file,
                document,
                row,
                num_bytes,
            }))
        });
        let document = document.transpose();
        let has_failed = matches!(document, Some(Err(_)));
        encoded.extend(document);
        if has_failed {
            break;
        }
    }
    encoded
}

/// Reads records into chunks.
struct Reader<'a, S: DocumentSource> {
    source: &'a S,
    work: Sender<(usize, Chunk<S::Record>)>,
    permits: Receiver<()>,
    chunk: Chunk<S::Record>,
    num_bytes: usize,
    number: usize,
}

/// Whoever wanted the records has gone.
struct Unwanted;

impl<S: DocumentSource> Reader<'_, S> {
    fn read_all(mut self, paths: &[PathBuf]) {
        for (file, path) in paths.iter().enumerate() {
            if self.read(file, path).is_err() {
                return;
            }
        }
        let _ = self.send();
    }

    fn read(&mut self, file: usize, path: &Path) -> Result<(), Unwanted> {
        let source = self.source;
        let records = match source.records(path) {
            Ok(records) => records,
            Err(error) => return self.fail(error),
        };
        for record in records {
            match record {
                Ok(content) => {
                    self.num_bytes += source.num_bytes(&content);
                    let row = source.row(path, &content);
                    self.chunk.push(Ok(Numbered { file, row, content }));
                    if self.num_bytes >= CHUNK_BYTES || self.chunk.len() >= CHUNK_RECORDS {
                        self.send()?;
                    }
                }
                Err(error) => return self.fail(error),
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: DataError) -> Result<(), Unwanted> {
        self.chunk.push(Err(error));
        self.send()?;
        Err(Unwanted)
    }

    fn send(&mut self) -> Result<(), Unwanted> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.permits.recv().map_err(|_| Unwanted)?;
        let chunk = mem::take(&mut self.chunk);
        self.num_bytes = 0;
        let number = self.number;
        self.number += 1;
        self.work.send((number, chunk)).map_err(|_| Unwanted)
    }
}
