//! Pairs of `.bin` and `.idx`, whole and broken.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

use std::fs;
use std::path::{Path, PathBuf};

use lengthwise_data::token_files::{
    TokenFiles, TokenFilesWriter, TokenIndex, TokenType, TokensAbout,
};
use lengthwise_data::{DataError, EncodedDocument};
use proptest::prelude::*;

/// An index as Megatron-LM writes it.
struct Idx {
    magic: [u8; 9],
    version: u64,
    code: u8,
    num_sequences: u64,
    num_bounds: u64,
    lens: Vec<i32>,
    pointers: Vec<i64>,
    bounds: Vec<i64>,
    rest: Vec<u8>,
}

impl Idx {
    /// Of sequences of these lengths of 2 bytes an id, each a document.
    fn of(lens: &[i32]) -> Self {
        let starts = lens.iter().scan(0i64, |end, &len| {
            let start = *end;
            *end += 2 * i64::from(len);
            Some(start)
        });
        Idx {
            magic: *b"MMIDIDX\0\0",
            version: 1,
            code: 8,
            num_sequences: lens.len() as u64,
            num_bounds: lens.len() as u64 + 1,
            pointers: starts.collect(),
            bounds: (0..=lens.len() as i64).collect(),
            lens: lens.to_vec(),
            rest: Vec::new(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.push(self.code);
        bytes.extend(self.num_sequences.to_le_bytes());
        bytes.extend(self.num_bounds.to_le_bytes());
        bytes.extend(self.lens.iter().flat_map(|len| len.to_le_bytes()));
        bytes.extend(
            self.pointers
                .iter()
                .flat_map(|pointer| pointer.to_le_bytes()),
        );
        bytes.extend(self.bounds.iter().flat_map(|bound| bound.to_le_bytes()));
        bytes.extend(&self.rest);
        bytes
    }

    fn read(&self) -> Result<TokenIndex, DataError> {
        let bytes = self.bytes();
        read(&bytes, 18)
    }
}

fn read(idx: &[u8], num_bin_bytes: u64) -> Result<TokenIndex, DataError> {
    TokenIndex::read(Path::new("c.idx"), idx, idx.len() as u64, num_bin_bytes)
}

#[test]
fn every_lie_of_an_index_is_named() {
    let good = || Idx::of(&[4, 0, 5]);
    assert_eq!(good().read().unwrap().num_documents(), 3);
    let broken = |change: &dyn Fn(&mut Idx)| {
        let mut idx = good();
        change(&mut idx);
        idx.read().unwrap_err().to_string()
    };
    let messages = [
        broken(&|idx| idx.magic = *b"PK\x03\x04.....".first_chunk().unwrap()),
        broken(&|idx| idx.version = 2),
        broken(&|idx| idx.code = 7),
        broken(&|idx| idx.code = 9),
        broken(&|idx| idx.code = 4),
        broken(&|idx| idx.num_sequences = u64::MAX / 12),
        broken(&|idx| idx.num_sequences = u64::MAX),
        broken(&|idx| idx.num_bounds = 5),
        broken(&|idx| {
            idx.num_bounds = 0;
            idx.bounds.clear();
        }),
        broken(&|idx| idx.lens[0] = -4),
        broken(&|idx| idx.lens[2] = 6),
        broken(&|idx| idx.lens[2] = i32::MAX),
        broken(&|idx| idx.lens[2] = 4),
        broken(&|idx| idx.pointers[0] = 2),
        broken(&|idx| idx.pointers[2] = -8),
        broken(&|idx| idx.pointers[2] = 10),
        broken(&|idx| idx.bounds[0] = 1),
        broken(&|idx| idx.bounds[2] = 0),
        broken(&|idx| idx.bounds[3] = 4),
        broken(&|idx| idx.bounds[3] = i64::MIN),
        broken(&|idx| idx.bounds[3] = 2),
        broken(&|idx| idx.rest = vec![0; 3]),
        broken(&|idx| idx.rest = vec![0; 4]),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn an_index_that_is_cut_anywhere_is_refused() {
    let bytes = Idx::of(&[4, 0, 5]).bytes();
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len], 18).is_err(), "{len}");
    }
    for num_bin_bytes in [0, 17, 19, u64::MAX] {
        assert!(read(&bytes, num_bin_bytes).is_err(), "{num_bin_bytes}");
    }
}

#[test]
fn documents_may_have_several_sequences() {
    let mut idx = Idx::of(&[4, 3, 2]);
    idx.bounds = vec![0, 2, 2, 3];
    idx.num_bounds = 4;
    let index = idx.read().unwrap();
    let ids: Vec<_> = (0..3).map(|document| index.ids(document)).collect();
    assert_eq!(ids, [0..7, 7..7, 7..9]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_index_makes_anything_but_an_error_of_what_it_can_not_be(
        lens in prop::collection::vec(0i32..9, 0..12),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let num_bin_bytes = 2 * lens.iter().sum::<i32>() as u64;
        let mut bytes = Idx::of(&lens).bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(index) = read(&bytes, num_bin_bytes) {
            // What is not refused is consistent.
            let size = index.token_type.num_bytes();
            prop_assert_eq!(index.num_ids() * size, num_bin_bytes);
            let mut end = 0;
            for document in 0..index.num_documents() {
                let ids = index.ids(document);
                prop_assert!(ids.start == end && ids.end >= ids.start);
                end = ids.end;
            }
            prop_assert_eq!(end, index.num_ids());
        }
    }
}

/// Documents of ids below 1000, some of them with labels.
fn documents() -> impl Strategy<Value = Vec<EncodedDocument>> {
    let document = prop::collection::vec((0u32..1000, any::<bool>()), 0..20);
    prop::collection::vec((document, any::<bool>()), 0..12).prop_map(|documents| {
        let document = |(tokens, is_masked): (Vec<(u32, bool)>, bool)| {
            let (ids, is_label): (_, Vec<bool>) = tokens.into_iter().unzip();
            EncodedDocument {
                ids,
                is_label: is_masked.then_some(is_label),
            }
        };
        documents.into_iter().map(document).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_read_as_they_were_written(
        documents in documents(),
        begins_with in prop::option::of(0u32..1000),
        is_large in any::<bool>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 12),
    ) {
        let root = tempfile::tempdir().unwrap();
        let prefix = root.path().join("c");
        let token_type = TokenType::for_vocabulary(if is_large { 100_000 } else { 1000 });
        let mut writer = TokenFilesWriter::create(&prefix, token_type).unwrap();
        for (row, document) in (1..).zip(&documents) {
            writer.add(document, Some(row)).unwrap();
        }
        let about = TokensAbout { begins_with, sources: vec![source(documents.len())], ..TokensAbout::default() };
        writer.finish_with(about).unwrap();
        let files = TokenFiles::open(&prefix).unwrap();
        prop_assert_eq!(files.num_documents(), documents.len());
        for (number, (document, (from, to))) in documents.iter().zip(cuts).enumerate() {
            let whole: Vec<u32> = begins_with.into_iter().chain(document.ids.iter().copied()).collect();
            let num_targets = files.num_targets(number);
            let expected = if document.ids.is_empty() { 0 } else { whole.len() as u64 - 1 };
            prop_assert_eq!(num_targets, expected);
            if num_targets == 0 {
                continue;
            }
            let is_label = document.is_label.clone().unwrap_or_else(|| vec![true; document.ids.len()]);
            let is_label = &is_label[whole.len() - 1 - num_targets as usize + usize::from(begins_with.is_none())..];
            let (from, to) = (from.index(num_targets as usize), to.index(num_targets as usize));
            let targets = from.min(to)..from.max(to) + 1;
            let sequence = files.read(number, targets.start as u64..targets.end as u64, 1000).unwrap();
            prop_assert_eq!(sequence.inputs(), &whole[targets.clone()]);
            prop_assert_eq!(sequence.targets(), &whole[targets.start + 1..targets.end + 1]);
            let labels = sequence.is_label().map_or(vec![true; targets.len()], <[bool]>::to_vec);
            prop_assert_eq!(labels, &is_label[targets]);
            prop_assert_eq!(files.place(number).unwrap(), format!("corpus.jsonl:{}", number + 1));
        }
    }
}

fn source(num_documents: usize) -> lengthwise_data::token_files::SourceFile {
    lengthwise_data::token_files::SourceFile {
        path: "corpus.jsonl".into(),
        num_bytes: 0,
        changed_ns: 0,
        inode: 0,
        num_documents: num_documents as u64,
    }
}

/// A pair of two documents, 1 2 3 and 4 5.
fn pair(directory: &Path) -> PathBuf {
    let prefix = directory.join("c");
    let mut writer = TokenFilesWriter::create(&prefix, TokenType::U16).unwrap();
    writer
        .add(&EncodedDocument::new(vec![1, 2, 3]), None)
        .unwrap();
    writer.add(&EncodedDocument::new(vec![4, 5]), None).unwrap();
    writer.finish().unwrap();
    prefix
}

#[test]
fn a_pair_is_written_as_megatron_writes_it() {
    let root = tempfile::tempdir().unwrap();
    let prefix = pair(root.path());
    let ids = [1u16, 2, 3, 4, 5].map(u16::to_le_bytes).concat();
    assert_eq!(fs::read(prefix.with_extension("bin")).unwrap(), ids);
    let idx = Idx::of(&[3, 2]).bytes();
    assert_eq!(fs::read(prefix.with_extension("idx")).unwrap(), idx);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn a_pair_of_others_is_read_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let files = TokenFiles::open(&pair(root.path())).unwrap();
    assert_eq!((files.num_targets(0), files.num_targets(1)), (2, 1));
    let sequence = files.read(0, 0..2, 6).unwrap();
    assert_eq!(
        (sequence.inputs(), sequence.targets()),
        (&[1, 2][..], &[2, 3][..])
    );
    assert!(files.place(1).unwrap().ends_with("c.bin document 1"));
    assert_eq!(files.place(2), None);
}

#[test]
fn ids_that_the_model_does_not_know_are_named_with_their_document() {
    let root = tempfile::tempdir().unwrap();
    let files = TokenFiles::open(&pair(root.path())).unwrap();
    let message = files.read(1, 0..1, 5).unwrap_err().to_string();
    let expected = "c.bin document 1: it has the id 5; the model knows ids from 0 to 4";
    assert!(message.ends_with(expected), "{message}");
    // Nor is a negative number an id.
    let prefix = root.path().join("d");
    let mut idx = Idx::of(&[2]);
    idx.code = 3;
    fs::write(prefix.with_extension("idx"), idx.bytes()).unwrap();
    fs::write(prefix.with_extension("bin"), [1, 0, 0xff, 0xff]).unwrap();
    let error = TokenFiles::open(&prefix)
        .unwrap()
        .read(0, 0..1, 5)
        .unwrap_err();
    assert!(
        matches!(error, DataError::NoSuchId { id: -1, .. }),
        "{error}"
    );
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let prefix = pair(root.path());
    let bin = prefix.with_extension("bin");
    let refused = |what: &str| match TokenFiles::open(&prefix) {
        Err(error) => assert!(error.to_string().contains(what), "{error}"),
        Ok(_) => panic!("{what}"),
    };
    let ids = fs::read(&bin).unwrap();
    fs::write(&bin, &ids[..9]).unwrap();
    refused("the ids have 9 bytes");
    fs::write(&bin, [&ids[..], &[0]].concat()).unwrap();
    refused("the file of ids has 11");
    fs::remove_file(&bin).unwrap();
    refused("can't read");
    fs::create_dir(&bin).unwrap();
    refused("it is no file");
    fs::remove_dir(&bin).unwrap();
    fs::write(&bin, &ids).unwrap();
    fs::write(prefix.with_extension("mask"), [0; 2]).unwrap();
    refused("it has 2 bytes; for this index it must have 1");
    fs::remove_file(prefix.with_extension("mask")).unwrap();
    for json in ["", "{}", "[]", r#"{"version": 1}"#] {
        fs::write(prefix.with_extension("json"), json).unwrap();
        refused("c.json");
    }
}
