//! Text that is encoded once.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod tokenizer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lengthwise_core::Tokens;
use lengthwise_data::records::{CorruptRows, Fields, Record};
use lengthwise_data::token_cache::{DocumentSource, Records, TokenCache};
use lengthwise_data::{
    BatchSize, Batches, CutRule, DataError, EncodedDocument, OpenedTokens, Overlong, RecordEncoder,
    TokenDocuments, TokenizerFile, TokenizerOptions,
};
use tokenizer::{END_OF_TEXT, VOCAB, write_tokenizer};

/// A corpus, a tokenizer and a cache below one directory.
struct Scene {
    root: tempfile::TempDir,
    source: Counting,
}

/// Text, of which it is counted how often it is encoded.
struct Counting {
    source: RecordEncoder,
    num_encoded: AtomicUsize,
}

impl DocumentSource for Counting {
    type Record = Record;

    fn fingerprint(&self) -> String {
        DocumentSource::fingerprint(&self.source)
    }

    fn vocab_size(&self) -> usize {
        self.source.vocab_size()
    }

    fn begins_with(&self) -> Option<u32> {
        self.source.begins_with()
    }

    fn records(&self, path: &Path) -> Result<Records<'_, Record>, DataError> {
        DocumentSource::records(&self.source, path)
    }

    fn num_bytes(&self, record: &Record) -> usize {
        self.source.num_bytes(record)
    }

    fn row(&self, path: &Path, record: &Record) -> Option<u64> {
        self.source.row(path, record)
    }

    fn encode(&self, record: Record) -> Result<Option<EncodedDocument>, DataError> {
        self.num_encoded.fetch_add(1, Ordering::Relaxed);
        DocumentSource::encode(&self.source, record)
    }
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("corpus")).unwrap();
        let path = write_tokenizer(root.path());
        let tokenizer = TokenizerFile::open(&path, &TokenizerOptions::default()).unwrap();
        Scene {
            root,
            source: Counting {
                source: RecordEncoder::new(
                    Arc::new(tokenizer),
                    Fields::default(),
                    None,
                    CorruptRows::default(),
                ),
                num_encoded: AtomicUsize::new(0),
            },
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path("corpus").join(name), text).unwrap();
    }

    fn open_with(&self, num_workers: usize) -> Result<OpenedTokens, DataError> {
        let cache = TokenCache::new(&self.path("cache/deep")).with_workers(num_workers);
        let extensions = ["txt", "jsonl", "bin"].map(str::to_owned);
        let paths = [self.path("corpus")];
        TokenDocuments::open(
            &paths,
            &extensions,
            &self.source,
            &cache,
            VOCAB,
            &mut |_| {},
        )
    }

    fn open(&self) -> Result<OpenedTokens, DataError> {
        self.open_with(2)
    }

    /// How many documents have been encoded since this was last asked.
    fn num_encoded(&self) -> usize {
        self.source.num_encoded.swap(0, Ordering::Relaxed)
    }

    /// The files of the cache by their endings.
    fn kept(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache/deep")).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|found| found == ending));
        files.sort();
        files
    }
}

fn batches(opened: OpenedTokens) -> Batches {
    let rule = CutRule {
        context: Tokens(1000),
        overlong: Overlong::Split,
        min_tokens: Tokens(1),
    };
    Batches::new(opened.documents, rule, BatchSize::Sequences(1000), 0).unwrap()
}

/// All documents, each as its ids with the one before them.
fn all_ids(opened: OpenedTokens) -> Vec<Vec<u32>> {
    let mut batches = batches(opened);
    let num = batches.census().num_sequences as usize;
    let batch = batches.next().unwrap().unwrap();
    let ids = |sequence: &lengthwise_data::TokenSequence| {
        let last = *sequence.targets().last().unwrap();
        [sequence.inputs(), &[last]].concat()
    };
    let mut all: Vec<_> = batch.sequences[..num].iter().map(ids).collect();
    all.sort();
    all
}

#[test]
fn documents_are_the_text_with_ends_of_text_around_them() {
    let scene = Scene::new();
    scene.write("a.txt", "the thing");
    scene.write(
        "b.jsonl",
        "\u{feff}{\"text\": \"a\"}\n\n{\"text\": \"\"}\n{\"text\": \"<|endoftext|>\"}",
    );
    scene.write("empty.txt", "");
    let opened = scene.open().unwrap();
    let batches = batches(opened);
    assert_eq!(batches.census().num_documents, 5);
    assert_eq!(batches.census().num_empty, 2);
    let places: Vec<_> = (0..5)
        .map(|index| batches.documents().place(index).unwrap())
        .collect();
    for (place, ending) in
        places
            .iter()
            .zip(["a.txt", "b.jsonl:1", "b.jsonl:3", "b.jsonl:4", "empty.txt"])
    {
        assert!(place.ends_with(ending), "{place}");
    }
    let expected = [
        vec![END_OF_TEXT, 97, END_OF_TEXT],
        vec![END_OF_TEXT, 257, 32, 256, 260, END_OF_TEXT],
        vec![END_OF_TEXT, END_OF_TEXT, END_OF_TEXT],
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(all_ids(scene.open().unwrap()), expected);
}

#[test]
fn text_is_encoded_once_and_again_only_when_something_changes() {
    let scene = Scene::new();
    scene.write("a.txt", "some text");
    scene.write("b.txt", "more text");
    let first = scene.open().unwrap();
    assert_eq!((first.num_made, scene.num_encoded()), (1, 2));
    let ids = all_ids(first);
    let second = scene.open().unwrap();
    assert_eq!((second.num_made, scene.num_encoded()), (0, 0));
    assert_eq!(all_ids(second), ids);
    // Other times, other files, another size.
    let file = File::options()
        .write(true)
        .open(scene.path("corpus/a.txt"))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(9))
        .unwrap();
    assert_eq!(scene.open().unwrap().num_made, 1);
    scene.write("c.txt", "c");
    assert_eq!(scene.open().unwrap().num_made, 1);
    fs::remove_file(scene.path("corpus/c.txt")).unwrap();
    // What was made before is still there.
    assert_eq!(scene.open().unwrap().num_made, 0);
}

#[cfg(unix)]
#[test]
fn a_file_rewritten_in_place_is_encoded_again_whatever_time_it_says() {
    let scene = Scene::new();
    scene.write("a.txt", "the same");
    let path = scene.path("corpus/a.txt");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let before = all_ids(scene.open().unwrap());
    // As `rsync --inplace --times` writes.
    scene.write("a.txt", "the sane");
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(modified).unwrap();
    let opened = scene.open().unwrap();
    assert_eq!(opened.num_made, 1);
    assert_ne!(all_ids(opened), before);
}

#[test]
fn any_number_of_threads_writes_the_same_files() {
    let scene = Scene::new();
    let texts = (0..3000).map(|index| {
        format!(
            "{{\"text\": \"the {index} {}\"}}\n",
            "ing ".repeat(index % 90)
        )
    });
    scene.write("a.jsonl", texts.collect::<String>());
    scene.write("b.txt", "the end");
    let mut made = Vec::new();
    for num_workers in [1, 2, 7] {
        scene.open_with(num_workers).unwrap();
        assert_eq!(scene.num_encoded(), 3001);
        made.push(
            ["bin", "idx", "rows", "json"].map(|ending| fs::read(&scene.kept(ending)[0]).unwrap()),
        );
        fs::remove_dir_all(scene.path("cache")).unwrap();
    }
    assert!(made.iter().all(|one| *one == made[0]));
}

#[test]
fn many_runs_at_once_do_not_hurt_each_other() {
    let scene = Scene::new();
    let lines = (0..500).map(|index| format!("{{\"text\": \"thing {index}\"}}\n"));
    scene.write("a.jsonl", lines.collect::<String>());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| all_ids(scene.open().unwrap()).len()))
            .collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), 500);
        }
    });
    assert_eq!(scene.kept("bin").len(), 1);
    let names = fs::read_dir(scene.path("cache/deep")).unwrap();
    assert_eq!(names.count(), 4, "nothing unfinished is left");
}

#[test]
fn the_first_broken_row_is_the_error_and_nothing_is_kept() {
    let scene = Scene::new();
    let mut lines: Vec<String> = (0..4000)
        .map(|index| format!("{{\"text\": \"{index}\"}}"))
        .collect();
    lines[1700] = "{\"text\": 3}".to_owned();
    lines[3900] = "no json".to_owned();
    scene.write("a.jsonl", lines.join("\n"));
    for num_workers in [1, 3] {
        let message = scene.open_with(num_workers).unwrap_err().to_string();
        assert!(
            message.contains("a.jsonl:1701: `text` is a number"),
            "{message}"
        );
    }
    assert_eq!(fs::read_dir(scene.path("cache/deep")).unwrap().count(), 0);
    scene.write("a.jsonl", "");
    scene.write("b.txt", b"ab\xff");
    let message = scene.open().unwrap_err().to_string();
    assert!(
        message.contains("b.txt: byte 3 of it is not UTF-8"),
        "{message}"
    );
}

#[test]
fn files_that_were_not_finished_or_were_cut_are_made_again() {
    let scene = Scene::new();
    scene.write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
    let ids = all_ids(scene.open().unwrap());
    scene.num_encoded();
    // As a run leaves them that is killed before the last file.
    fs::remove_file(&scene.kept("json")[0]).unwrap();
    let again = scene.open().unwrap();
    assert_eq!((again.num_made, again.warnings.len()), (1, 0));
    assert_eq!(all_ids(again), ids);
    for (ending, len) in [
        ("bin", 0),
        ("bin", 9),
        ("idx", 40),
        ("rows", 3),
        ("json", 20),
        ("json", 0),
    ] {
        let file = File::options()
            .write(true)
            .open(&scene.kept(ending)[0])
            .unwrap();
        file.set_len(len).unwrap();
        let again = scene.open().unwrap();
        assert_eq!(
            (again.num_made, again.warnings.len()),
            (1, 1),
            "{ending} {len}"
        );
        assert_eq!(all_ids(again), ids);
    }
    fs::remove_file(&scene.kept("bin")[0]).unwrap();
    assert_eq!(all_ids(scene.open().unwrap()), ids);
}

#[test]
fn ids_that_are_no_longer_what_was_written_end_the_run() {
    let scene = Scene::new();
    scene.write("a.txt", "some text");
    scene.open().unwrap().documents.check().unwrap();
    for ending in ["bin", "idx"] {
        let path = &scene.kept(ending)[0];
        let good = fs::read(path).unwrap();
        let mut bytes = good.clone();
        // An id becomes another one; the index keeps its form.
        match ending {
            "bin" => bytes[0] ^= 1,
            _ => bytes[17] = 3,
        }
        fs::write(path, bytes).unwrap();
        let opened = scene.open().unwrap();
        let error = opened.documents.check().unwrap_err();
        assert!(
            matches!(&error, DataError::TokensChanged { path: named, .. } if named == path),
            "{error}"
        );
        assert!(error.hint().is_some());
        let checked = OpenedTokens {
            documents: opened.documents.checked_in_background(),
            ..opened
        };
        let mut batches = batches(checked);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        let error = loop {
            match batches.next().unwrap() {
                Ok(_) => assert!(std::time::Instant::now() < end, "nothing was found"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DataError::TokensChanged { .. }), "{error}");
        assert!(batches.next().is_none());
        fs::write(path, good).unwrap();
    }
}

#[test]
fn pairs_are_taken_where_they_are_named() {
    let scene = Scene::new();
    scene.write("z.txt", "text");
    scene.open().unwrap();
    let prefix = scene.kept("bin")[0].with_extension("");
    for ending in ["bin", "idx", "json"] {
        let name = format!("m.{ending}");
        fs::copy(
            prefix.with_extension(ending),
            scene.path("corpus").join(name),
        )
        .unwrap();
    }
    // In a directory by the extension bin, in its place before z.txt.
    let opened = scene.open().unwrap();
    assert_eq!(opened.documents.files().len(), 2);
    assert!(opened.documents.files()[0].prefix().ends_with("m"));
    // By prefix or by name, and then once.
    scene.num_encoded();
    let cache = TokenCache::new(&scene.path("cache/deep"));
    let paths = ["corpus/m", "corpus/m.idx", "corpus/m.bin"].map(|name| scene.path(name));
    let are_in = |paths: &[PathBuf], extensions: &[String]| {
        TokenDocuments::are_named_in(&TokenDocuments::find_files(paths, extensions).unwrap())
    };
    assert!(are_in(&paths[..1], &[]));
    let opened =
        TokenDocuments::open(&paths, &[], &scene.source, &cache, VOCAB, &mut |_| {}).unwrap();
    assert_eq!(
        (opened.documents.files().len(), scene.num_encoded()),
        (1, 0)
    );
    // By patterns, of either file or of both.
    for pattern in [
        "corpus/m.[bi]*",
        "corpus/*.bin",
        "corpus/*.idx",
        "corp*/m.b*",
    ] {
        let paths = [scene.path(pattern)];
        assert!(are_in(&paths, &[]), "{pattern}");
        let opened =
            TokenDocuments::open(&paths, &[], &scene.source, &cache, VOCAB, &mut |_| {}).unwrap();
        let num_made = scene.num_encoded();
        assert_eq!(
            (opened.documents.files().len(), num_made),
            (1, 0),
            "{pattern}"
        );
    }
    let extensions = |extension: &str| [extension.to_owned()];
    let corpus = [scene.path("corpus")];
    assert!(are_in(&corpus, &extensions("bin")));
    assert!(!are_in(&corpus, &extensions("txt")));
    assert!(!are_in(&[scene.path("corpus/z.txt")], &[]));
}

#[test]
fn progress_comes_to_its_end() {
    let scene = Scene::new();
    let lines = (0..2000).map(|index| format!("{{\"text\": \"thing {index}\"}}\n"));
    let lines = lines.collect::<String>();
    scene.write("a.jsonl", &lines);
    scene.write("b.txt", "text");
    let mut all = Vec::new();
    let cache = TokenCache::new(&scene.path("cache"));
    let extensions = ["txt", "jsonl"].map(str::to_owned);
    TokenDocuments::open(
        &[scene.path("corpus")],
        &extensions,
        &scene.source,
        &cache,
        VOCAB,
        &mut |one| all.push(one),
    )
    .unwrap();
    assert!(
        all.windows(2)
            .all(|two| two[0].num_bytes <= two[1].num_bytes)
    );
    let last = all.last().unwrap();
    assert_eq!(
        (last.num_bytes, last.num_documents),
        (lines.len() as u64 + 4, 2001)
    );
    assert_eq!(last.num_all_bytes, last.num_bytes);
}

#[test]
fn what_was_kept_of_files_that_have_changed_is_removed_and_read_on() {
    let scene = Scene::new();
    scene.write("a.txt", "the first text");
    let mut before = batches(scene.open().unwrap());
    let kept = scene.kept("bin");
    assert_eq!(kept.len(), 1);
    // Of a file that is gone, nothing can be known.
    let other = Scene::new();
    other.write("z.txt", "another text");
    drop(other.open().unwrap());
    for path in fs::read_dir(other.path("cache/deep")).unwrap() {
        let path = path.unwrap().path();
        fs::copy(
            &path,
            scene.path("cache/deep").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    scene.write("a.txt", "the second text, which is longer");
    let opened = scene.open().unwrap();
    assert!(opened.num_removed_bytes > 0);
    assert!(!kept[0].exists());
    assert_eq!(scene.kept("bin").len(), 2);
    assert_eq!(scene.open().unwrap().num_removed_bytes, 0);
    // A run that goes on has its files open.
    assert!(before.next().unwrap().is_ok());
}
