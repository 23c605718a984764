//! Documents that are read when they are needed.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::DataError;
use crate::files::Files;
use crate::jsonl;
use crate::landmarks::{Landmarks, Stretch};
use crate::records::{NOT_READ, ends_with};

/// The documents of some files. Only their places and lengths are in memory.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<CorpusFile>,
    documents: Vec<Document>,
    num_repeated_files: u64,
}

#[derive(Debug)]
struct CorpusFile {
    path: PathBuf,
    /// Its state when its documents were found.
    version: Option<FileVersion>,
}

/// Signs by which a file is still the one that was read.
#[derive(Debug, PartialEq, Eq)]
struct FileVersion {
    num_bytes: u64,
    modified: SystemTime,
}

impl FileVersion {
    /// None where the system keeps no times.
    fn of(metadata: &Metadata) -> Option<Self> {
        metadata.modified().ok().map(|modified| FileVersion {
            num_bytes: metadata.len(),
            modified,
        })
    }
}

#[derive(Debug)]
struct Document {
    file: u32,
    num_bytes: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    WholeFile,
    Line {
        line: u64,
        offset: u64,
        num_line_bytes: u64,
        text_crc32: u32,
        landmarks: Option<Box<Landmarks>>,
    },
}

impl Corpus {
    /// The files that a corpus of `paths` has, unread.
    ///
    /// # Errors
    ///
    /// What can't be read, or a directory without documents.
    pub fn find_files(paths: &[PathBuf], extensions: &[String]) -> Result<Vec<PathBuf>, DataError> {
        Files::find(paths, extensions).map(|files| files.paths)
    }

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
            paths: found_paths,
            num_repeated,
        } = Files::find(paths, extensions)?;
        let mut files = Vec::with_capacity(found_paths.len());
        let mut documents = Vec::new();
        for (index, path) in found_paths.into_iter().enumerate() {
            let file = u32::try_from(index).map_err(|_| DataError::TooManyDocuments)?;
            check_is_text(&path)?;
            let opened = File::open(&path).map_err(|source| read_error(&path, source))?;
            let metadata = opened.metadata();
            let metadata = metadata.map_err(|source| read_error(&path, source))?;
            let version = FileVersion::of(&metadata);
            if is_jsonl(&path) {
                let places = jsonl::index(&path, &opened)?;
                documents.extend(places.into_iter().map(|found| Document {
                    file,
                    num_bytes: found.num_text_bytes,
                    place: Place::Line {
                        line: found.line,
                        offset: found.offset,
                        num_line_bytes: found.num_line_bytes,
                        text_crc32: found.text_crc32,
                        landmarks: found.landmarks,
                    },
                }));
            } else {
                documents.push(Document {
                    file,
                    num_bytes: metadata.len(),
                    place: Place::WholeFile,
                });
            }
            files.push(CorpusFile { path, version });
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

    /// Where a document is: its file, and the line in it where the file has several.
    pub fn place(&self, document: usize) -> Option<String> {
        let document = self.documents.get(document)?;
        let path = self.files.get(document.file as usize)?.path.display();
        Some(match document.place {
            Place::WholeFile => path.to_string(),
            Place::Line { line, .. } => format!("{path}:{line}"),
        })
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

    /// Some bytes of a document. Of a long one only these are read and decoded, with a few KiB around them; all of a
    /// JSONL file's line again where the file was touched since the corpus was opened, so that a change is seen.
    ///
    /// # Errors
    ///
    /// The file can't be read, or the document is no longer what it was when the corpus was opened.
    pub(crate) fn read(&self, document: usize, bytes: Range<u64>) -> Result<Vec<u8>, DataError> {
        let document = &self.documents[document];
        let CorpusFile { path, version } = &self.files[document.file as usize];
        let mut file = File::open(path).map_err(|source| read_error(path, source))?;
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| read_error(path, source))?;
        let found = FileVersion::of(&metadata);
        let changed = |found_bytes| DataError::Changed {
            path: path.clone(),
            difference: match (document.num_bytes, found_bytes) {
                (before, now) if before == now => {
                    format!("a document of {now} bytes may have another text")
                }
                (before, now) => format!("a document of {before} bytes has {now} now"),
            },
        };
        match &document.place {
            Place::WholeFile => {
                // Where no times are kept, only lengths tell.
                if *version != found || metadata.len() != document.num_bytes {
                    return Err(changed(metadata.len()));
                }
                read_range(&mut file, bytes).map_err(|source| read_error(path, source))
            }
            Place::Line {
                line,
                offset,
                num_line_bytes,
                text_crc32,
                landmarks,
            } => {
                let is_unchanged = version.is_some() && *version == found;
                if let Some(landmarks) = landmarks.as_ref().filter(|_| is_unchanged) {
                    let part = read_part(&mut file, *offset, landmarks, &bytes);
                    if let Some(part) = part.map_err(|source| read_error(path, source))? {
                        return Ok(part);
                    }
                }
                let line_bytes = read_range(&mut file, *offset..offset + num_line_bytes)
                    .map_err(|source| read_error(path, source))?;
                let text = jsonl::text(path, *line, &line_bytes)?;
                let is_same = text.len() as u64 == document.num_bytes
                    && crc32fast::hash(text.as_bytes()) == *text_crc32;
                if !is_same {
                    return Err(changed(text.len() as u64));
                }
                Ok(text.as_bytes()[bytes.start as usize..bytes.end as usize].to_vec())
            }
        }
    }
}

/// Some bytes of the text in the line at `offset`; none if what is there is not what the landmarks say.
fn read_part(
    file: &mut File,
    offset: u64,
    landmarks: &Landmarks,
    bytes: &Range<u64>,
) -> io::Result<Option<Vec<u8>>> {
    let Stretch {
        line_bytes,
        text_bytes,
    } = landmarks.stretch(bytes);
    let string = read_range(file, offset + line_bytes.start..offset + line_bytes.end)?;
    let text = jsonl::part(&string);
    let text = text.filter(|text| text.len() as u64 == text_bytes.end - text_bytes.start);
    let within = (bytes.start - text_bytes.start) as usize..(bytes.end - text_bytes.start) as usize;
    Ok(text.map(|text| text.as_bytes()[within].to_vec()))
}

/// Endings of files that are read only where tokens are kept.
const NOT_READ_IN_PLACE: [&str; 3] = ["gz", "zst", "parquet"];

fn check_is_text(path: &Path) -> Result<(), DataError> {
    let mut endings = NOT_READ.iter().copied().chain(NOT_READ_IN_PLACE);
    match endings.find(|ending| ends_with(path, ending)) {
        Some(extension) => Err(DataError::NoText {
            path: path.to_owned(),
            extension,
        }),
        None => Ok(()),
    }
}

fn is_jsonl(path: &Path) -> bool {
    ends_with(path, "jsonl")
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
    use std::fs;
    use std::time::Duration;

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
    fn files_that_hold_no_plain_text_are_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for (name, word) in [
            ("a.json", "json"),
            ("b.txt.gz", "gz"),
            ("c.jsonl.ZST", "zst"),
            ("d.parquet", "parquet"),
            ("e.csv", "csv"),
            ("f.jsonl.gz.gz", "gz"),
        ] {
            let path = root.path().join(name);
            fs::write(&path, "bytes").unwrap();
            let error = Corpus::open(&[path], &[]).unwrap_err();
            assert!(error.to_string().contains(&format!(" .{word} ")), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_document() {
        let root = tempfile::tempdir().unwrap();
        let line = "\u{feff}{\"text\":\"some text to train on\"}\n";
        fs::write(root.path().join("bom.jsonl"), line).unwrap();
        fs::write(root.path().join("bom.txt"), "\u{feff}text").unwrap();
        let corpus = open(root.path()).unwrap();
        assert_eq!(corpus.read(0, 0..21).unwrap(), b"some text to train on");
        assert_eq!(corpus.document_bytes().collect::<Vec<_>>(), [21, 7]);
        assert!(corpus.place(0).unwrap().ends_with("bom.jsonl:1"));
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
        // The same lengths, another text.
        fs::write(&lines, "{\"text\": \"two\"}").unwrap();
        let error = corpus.read(0, 0..3).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "a.jsonl changed during the run: a document of 3 bytes may have another text"
            ),
            "{error}"
        );
        fs::write(&text, "TEXT").unwrap();
        set_modified(&text, Duration::from_secs(5));
        let error = corpus.read(1, 0..4).unwrap_err().to_string();
        assert!(
            error.ends_with("a document of 4 bytes may have another text"),
            "{error}"
        );
        fs::remove_file(&text).unwrap();
        let error = corpus.read(1, 0..4).unwrap_err();
        assert!(error.to_string().starts_with("can't read "), "{error}");
    }

    /// Says that a file was written to this long ago.
    fn set_modified(path: &Path, ago: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    /// A JSONL file of two long documents with escapes, and their texts.
    fn long_documents(path: &Path) -> [String; 2] {
        let texts =
            ["line\n\u{fc}\u{1f600}\"", "\u{1}0123456789abc"].map(|part| part.repeat(9_000));
        let lines = texts
            .each_ref()
            .map(|text| format!("{{\"text\": {}}}\n", serde_json::to_string(text).unwrap()));
        fs::write(path, lines.concat()).unwrap();
        texts
    }

    #[test]
    fn pieces_of_long_lines_are_those_of_their_texts() {
        let root = tempfile::tempdir().unwrap();
        let texts = long_documents(&root.path().join("a.jsonl"));
        let corpus = open(root.path()).unwrap();
        // Pieces of both by turns, and not in order.
        for piece in (0..texts[0].len() / 1000).rev() {
            for (document, text) in texts.iter().enumerate() {
                let bytes = piece * 1000..(piece * 1000 + 1024).min(text.len());
                let read = corpus.read(document, bytes.start as u64..bytes.end as u64);
                assert_eq!(read.unwrap(), &text.as_bytes()[bytes]);
            }
        }
    }

    #[test]
    fn a_piece_is_read_without_the_rest_of_its_line() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.jsonl");
        let texts = long_documents(&path);
        let corpus = open(root.path()).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // All lines but 20 KB of the first end up as no JSON, with the time of the file that was opened.
        let mut bytes = fs::read(&path).unwrap();
        bytes[..30_000].fill(b'!');
        bytes[50_000..].fill(b'!');
        fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        // 14 bytes in the file are 12 of the text.
        let (at, text) = (40_000 / 14 * 12, texts[0].as_bytes());
        let piece = corpus.read(0, at as u64..at as u64 + 1024).unwrap();
        assert_eq!(piece, &text[at..at + 1024]);
        assert!(corpus.read(0, 0..1024).is_err());
        // The file of another time is checked as a whole.
        file.set_modified(modified + Duration::from_secs(1))
            .unwrap();
        assert!(corpus.read(0, at as u64..at as u64 + 1024).is_err());
    }

    #[test]
    fn pieces_of_a_line_are_right_where_only_others_were_added() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.jsonl");
        let texts = long_documents(&path);
        let corpus = open(root.path()).unwrap();
        let longer = [fs::read(&path).unwrap(), b"{\"text\": \"new\"}\n".to_vec()].concat();
        fs::write(&path, longer).unwrap();
        let piece = corpus.read(1, 5000..6000).unwrap();
        assert_eq!(piece, &texts[1].as_bytes()[5000..6000]);
    }
}
