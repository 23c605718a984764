//! Documents that are read when they are needed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::files::{Files, has_extension};
use crate::jsonl;

/// The documents of some files. Only their places and lengths are in memory.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<PathBuf>,
    documents: Vec<Document>,
    num_repeated_files: u64,
}

#[derive(Clone, Copy, Debug)]
struct Document {
    file: u32,
    num_bytes: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    WholeFile,
    Line {
        line: u64,
        offset: u64,
        num_line_bytes: u64,
    },
}

impl Corpus {
    /// Finds the documents of `paths`: files, and below directories all files with one of `extensions`.
    ///
    /// A file with the extension `jsonl` has a document in each line, the string `text` of a JSON object; all its
    /// lines are checked now. Any other file is one document, whatever its bytes. A file met twice is taken once.
    ///
    /// # Errors
    ///
    /// What can't be read, a directory without documents, or a bad line of a JSONL file.
    pub fn open(paths: &[PathBuf], extensions: &[String]) -> Result<Self, DataError> {
        let Files {
            paths: files,
            num_repeated,
        } = Files::find(paths, extensions)?;
        let mut documents = Vec::new();
        for (index, path) in files.iter().enumerate() {
            let file = u32::try_from(index).map_err(|_| DataError::TooManyDocuments)?;
            if is_jsonl(path) {
                documents.extend(jsonl::index(path)?.into_iter().map(|found| Document {
                    file,
                    num_bytes: found.num_text_bytes,
                    place: Place::Line {
                        line: found.line,
                        offset: found.offset,
                        num_line_bytes: found.num_line_bytes,
                    },
                }));
            } else {
                let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
                documents.push(Document {
                    file,
                    num_bytes: metadata.len(),
                    place: Place::WholeFile,
                });
            }
        }
        if u32::try_from(documents.len()).is_err() {
            return Err(DataError::TooManyDocuments);
        }
        Ok(Corpus {
            files,
            documents,
            num_repeated_files: num_repeated,
        })
    }

    /// The lengths in bytes of all documents, in order.
    pub fn document_bytes(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.documents.iter().map(|document| document.num_bytes)
    }

    /// The length in bytes of one document.
    pub(crate) fn num_bytes(&self, document: usize) -> u64 {
        self.documents[document].num_bytes
    }

    /// How many documents there are.
    pub fn num_documents(&self) -> usize {
        self.documents.len()
    }

    /// How many files they are in.
    pub fn num_files(&self) -> usize {
        self.files.len()
    }

    /// How often a file was met again and not taken a second time.
    pub fn num_repeated_files(&self) -> u64 {
        self.num_repeated_files
    }

    /// Some bytes of a document.
    ///
    /// # Errors
    ///
    /// The file can't be read, or the document no longer has the length it had when the corpus was opened.
    pub(crate) fn read(&self, document: usize, bytes: Range<u64>) -> Result<Vec<u8>, DataError> {
        let document = self.documents[document];
        let path = &self.files[document.file as usize];
        let mut file = File::open(path).map_err(|source| read_error(path, source))?;
        let changed = |found_bytes| DataError::Changed {
            path: path.clone(),
            expected_bytes: document.num_bytes,
            found_bytes,
        };
        match document.place {
            Place::WholeFile => {
                let found = file
                    .metadata()
                    .map_err(|source| read_error(path, source))?
                    .len();
                if found != document.num_bytes {
                    return Err(changed(found));
                }
                read_range(&mut file, bytes).map_err(|source| read_error(path, source))
            }
            Place::Line {
                line,
                offset,
                num_line_bytes,
            } => {
                let line_bytes = read_range(&mut file, offset..offset + num_line_bytes)
                    .map_err(|source| read_error(path, source))?;
                let text = jsonl::text(path, line, &line_bytes)?;
                if text.len() as u64 != document.num_bytes {
                    return Err(changed(text.len() as u64));
                }
                Ok(text.as_bytes()[bytes.start as usize..bytes.end as usize].to_vec())
            }
        }
    }
}

fn is_jsonl(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| has_extension(name, &["jsonl".to_owned()]))
}

fn read_range(file: &mut File, bytes: Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(bytes.start))?;
    let mut buffer = vec![0; (bytes.end - bytes.start) as usize];
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn read_error(path: &Path, source: io::Error) -> DataError {
    DataError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Result<Corpus, DataError> {
        Corpus::open(
            &[directory.to_owned()],
            &["txt".to_owned(), "jsonl".to_owned()],
        )
    }

    #[test]
    fn documents_are_read_in_parts_and_need_not_be_text() {
        let root = tempfile::tempdir().unwrap();
        fs::write(
            root.path().join("a.jsonl"),
            "{\"text\": \"one\"}\n{\"text\": \"\\u00fc2\"}\n",
        )
        .unwrap();
        fs::write(root.path().join("b.txt"), [0xff, 0, 0x80, 7]).unwrap();
        let corpus = open(root.path()).unwrap();
        assert_eq!(corpus.document_bytes().collect::<Vec<_>>(), [3, 3, 4]);
        assert_eq!(corpus.read(0, 1..3).unwrap(), b"ne");
        assert_eq!(corpus.read(1, 0..3).unwrap(), "ü2".as_bytes());
        assert_eq!(corpus.read(2, 0..4).unwrap(), [0xff, 0, 0x80, 7]);
        assert_eq!(corpus.read(2, 2..3).unwrap(), [0x80]);
    }

    #[test]
    fn files_that_vanish_or_change_are_errors() {
        let root = tempfile::tempdir().unwrap();
        let [text, lines] = ["b.txt", "a.jsonl"].map(|name| root.path().join(name));
        fs::write(&text, "text").unwrap();
        fs::write(&lines, "{\"text\": \"one\"}").unwrap();
        let corpus = open(root.path()).unwrap();
        fs::write(&text, "longer text").unwrap();
        fs::write(&lines, "{\"text\":   \"\"}").unwrap();
        let error = corpus.read(1, 0..4).unwrap_err().to_string();
        assert!(
            error.ends_with("a document of 4 bytes has 11 now"),
            "{error}"
        );
        assert!(corpus.read(0, 0..3).is_err());
        fs::remove_file(&text).unwrap();
        let error = corpus.read(1, 0..4).unwrap_err();
        assert!(error.to_string().starts_with("can't read "), "{error}");
    }
}
