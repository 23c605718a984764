//! The content of documents, as far as a resumed run must find it again.

use std::hash::Hasher as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::{DataError, Documents, TokenSequence};

/// Of corpora up to this size every token is read.
const MOST_TOKENS: u64 = 16 << 20;
/// And of up to so many documents, each of which may be a file to open.
const MOST_DOCUMENTS: usize = 1 << 16;
/// Of larger ones so many documents are, spread evenly,
const NUM_SAMPLES: usize = 4096;
/// and of each of them up to so many tokens at its start, and at its end.
const SAMPLED_TOKENS: u64 = 2048;
/// Tokens that are in memory at once.
const TOKENS_AT_ONCE: u64 = 1 << 20;

/// The content of documents, and in words its source.
///
/// The hash alone decides, so that the same text may come from other files; the words tell why it differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentFingerprint {
    /// XXH3-64 of the ids, and of which of them are trained on, in hexadecimal: of all of them, or of a sample where there are
    /// many. `None` where it was not taken.
    pub xxh3: Option<String>,
    /// How text became ids.
    pub tokenizer: Option<String>,
    /// The part of a record that is trained on.
    pub trained_on: Option<String>,
}

impl ContentFingerprint {
    /// The content of documents, which are read for it.
    pub(crate) fn of(documents: &Documents) -> Result<Self, DataError> {
        let mut hasher = XxHash3_64::new();
        for (document, targets) in sample(documents) {
            let mut start = targets.start;
            while start < targets.end {
                let end = targets.end.min(start + TOKENS_AT_ONCE);
                add(&mut hasher, &documents.read(document, start..end)?);
                start = end;
            }
        }
        Ok(ContentFingerprint {
            xxh3: Some(format!("{:016x}", hasher.finish())),
            ..ContentFingerprint::default()
        })
    }

    /// Whether it is known that two contents are not the same.
    pub(crate) fn differs(&self, before: &Self) -> bool {
        matches!((&self.xxh3, &before.xxh3), (Some(now), Some(before)) if now != before)
    }
}

/// Which tokens of which documents are hashed.
fn sample(documents: &Documents) -> Vec<(usize, Range<u64>)> {
    let num_targets: Vec<u64> = documents.num_targets().collect();
    let num_documents = num_targets.len();
    let whole = |document: usize| (document, 0..num_targets[document]);
    if num_targets.iter().sum::<u64>() <= MOST_TOKENS && num_documents <= MOST_DOCUMENTS {
        return (0..num_documents).map(whole).collect();
    }
    let num_samples = num_documents.min(NUM_SAMPLES);
    let spread = (0..num_samples).map(|index| index * num_documents / num_samples);
    let ends = |document: usize| {
        let end = num_targets[document];
        let head = end.min(SAMPLED_TOKENS);
        let tail = end.saturating_sub(SAMPLED_TOKENS).max(head);
        [(document, 0..head), (document, tail..end)]
    };
    spread.flat_map(ends).collect()
}

fn add(hasher: &mut XxHash3_64, sequence: &TokenSequence) {
    hasher.write(&sequence.inputs()[0].to_le_bytes());
    for &target in sequence.targets() {
        hasher.write(&target.to_le_bytes());
    }
    match sequence.is_label() {
        Some(is_label) => is_label
            .iter()
            .for_each(|&label| hasher.write(&[label.into()])),
        None => sequence.targets().iter().for_each(|_| hasher.write(&[1])),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::Corpus;

    fn of(directory: &Path) -> ContentFingerprint {
        let corpus = Corpus::open(&[directory.to_owned()], &["txt".to_owned()]).unwrap();
        ContentFingerprint::of(&corpus.into()).unwrap()
    }

    #[test]
    fn a_byte_of_a_small_corpus_counts() {
        let root = tempfile::tempdir().unwrap();
        let mut text = vec![b'x'; 20_000];
        fs::write(root.path().join("a.txt"), &text).unwrap();
        fs::write(root.path().join("empty.txt"), "").unwrap();
        let before = of(root.path());
        assert_eq!(of(root.path()), before);
        text[10_000] = b'y';
        fs::write(root.path().join("a.txt"), &text).unwrap();
        assert!(of(root.path()).differs(&before));
    }

    #[test]
    fn the_ends_of_documents_of_a_large_corpus_count() {
        let root = tempfile::tempdir().unwrap();
        let mut text = vec![b'x'; 2 * MOST_TOKENS as usize];
        fs::write(root.path().join("a.txt"), &text).unwrap();
        fs::write(root.path().join("b.txt"), "short").unwrap();
        let before = of(root.path());
        *text.last_mut().unwrap() = b'y';
        fs::write(root.path().join("a.txt"), &text).unwrap();
        let other_end = of(root.path());
        assert!(other_end.differs(&before));
        fs::write(root.path().join("b.txt"), "shirt").unwrap();
        assert!(of(root.path()).differs(&other_end));
    }

    #[test]
    fn the_end_of_a_document_is_hashed_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(
            root.path().join("a.txt"),
            vec![b'x'; MOST_TOKENS as usize + 1],
        )
        .unwrap();
        fs::write(root.path().join("b.txt"), vec![b'x'; 3000]).unwrap();
        let corpus = Corpus::open(&[root.path().to_owned()], &["txt".to_owned()]).unwrap();
        let sampled = sample(&corpus.into());
        // Each text has an end of text.
        let last = MOST_TOKENS + 2;
        assert_eq!(
            sampled,
            [
                (0, 0..2048),
                (0, last - 2048..last),
                (1, 0..2048),
                (1, 2048..3001)
            ]
        );
    }
}
