//! Global batches from a corpus, in a new order every epoch.

use std::num::NonZero;

use lengthwise_core::Tokens;

use crate::schedule::{BatchSchedule, Order};
use crate::{
    BatchSize, Census, ContentFingerprint, CutRule, DataError, DataFingerprint, Documents, Excerpt,
    Position, ScheduledBatch, TokenBatch, WeightedDocuments,
};

/// The batches of a [`BatchSchedule`], read: without end, in a new order every epoch.
///
/// Only places and lengths are in memory; a sequence is read when its batch is drawn. After an error there are no
/// more batches.
#[derive(Debug)]
pub struct Batches {
    documents: Documents,
    schedule: BatchSchedule,
    /// The source of the documents, in words.
    made_of: ContentFingerprint,
    /// How far batches have been drawn and read.
    position: Position,
    failed: bool,
}

impl Batches {
    /// The batches of some documents under these rules.
    ///
    /// # Errors
    ///
    /// No document gives a sequence, or there are too many to number.
    pub fn new(
        documents: impl Into<Documents>,
        rule: CutRule,
        size: BatchSize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let documents = documents.into();
        let lens = documents.num_targets().map(Tokens).collect();
        let order = Order::Shuffled { seed };
        Ok(Batches {
            schedule: BatchSchedule::new(lens, rule, size, order)?,
            made_of: ContentFingerprint::default(),
            position: Position::START,
            failed: false,
            documents,
        })
    }

    /// The batches of several sources with their weights, as [`BatchSchedule::blended`] draws them.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blended(
        sources: Vec<(Documents, f64)>,
        rule: CutRule,
        size: BatchSize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let weighted = sources.iter().map(|(documents, weight)| WeightedDocuments {
            documents: documents.num_targets().map(Tokens).collect(),
            weight: *weight,
        });
        Ok(Batches {
            schedule: BatchSchedule::blended(weighted.collect(), rule, size, seed)?,
            made_of: ContentFingerprint::default(),
            position: Position::START,
            failed: false,
            documents: Documents::Several(sources.into_iter().map(|(each, _)| each).collect()),
        })
    }

    /// The same batches, of which it is known how text became ids and what is trained on of a record: words that say why a
    /// fingerprint is another.
    #[must_use]
    pub fn made_of(self, tokenizer: String, trained_on: String) -> Self {
        Batches {
            made_of: ContentFingerprint {
                xxh3: None,
                tokenizer: Some(tokenizer),
                trained_on: Some(trained_on),
            },
            ..self
        }
    }

    /// Of each of several sources, its share of all tokens, and what it becomes in an epoch of its own; nothing of a single one.
    pub fn sources(&self) -> Vec<(f64, Census)> {
        let Documents::Several(sources) = &self.documents else {
            return Vec::new();
        };
        let shares = self.schedule.shares().into_iter();
        let censuses = sources.iter().map(|source| {
            let mut census = Census::default();
            for num_tokens in source.num_targets() {
                self.schedule.rule().cut(num_tokens, &mut census, |_| {});
            }
            census
        });
        shares
            .zip(censuses)
            .map(|((share, _), census)| (share, census))
            .collect()
    }

    /// Of each of several sources, its share of all tokens, and those drawn so far; nothing of a single one.
    pub fn shares(&self) -> Vec<(f64, Tokens)> {
        self.schedule.shares()
    }

    /// The batches from `position` on: those that follow there in a run over the same corpus with the same rules and
    /// seed.
    ///
    /// # Errors
    ///
    /// The position is in no epoch, or beyond the end of one.
    pub fn starting_at(self, position: Position) -> Result<Self, DataError> {
        Ok(Batches {
            schedule: self.schedule.starting_at(position)?,
            position,
            failed: false,
            ..self
        })
    }

    /// The same batches, which end after this many epochs.
    #[must_use]
    pub fn ending_after(self, num_epochs: NonZero<u64>) -> Self {
        Batches {
            schedule: self.schedule.ending_after(num_epochs),
            ..self
        }
    }

    /// How far sequences have been drawn; after an error, how far before the batch that could not be read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What tells whether another run draws the same batches. Documents are read for it, up to 16 Mi tokens of them.
    ///
    /// # Errors
    ///
    /// They can't be read, or are no longer what they were.
    pub fn fingerprint(&self) -> Result<DataFingerprint, DataError> {
        Ok(DataFingerprint {
            content: ContentFingerprint {
                xxh3: ContentFingerprint::of(&self.documents)?.xxh3,
                ..self.made_of.clone()
            },
            ..self.schedule.fingerprint()
        })
    }

    /// What the corpus becomes in one epoch, and what it loses.
    pub fn census(&self) -> &Census {
        self.schedule.census()
    }

    /// The longest sequence of an epoch, the first where several are.
    pub fn longest(&self) -> Excerpt {
        self.schedule.longest()
    }

    /// The documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    fn read(&self, batch: ScheduledBatch) -> Result<TokenBatch, DataError> {
        let mut sequences = Vec::with_capacity(batch.excerpts.len());
        for excerpt in batch.excerpts {
            let document = excerpt.document as usize;
            sequences.push(self.documents.read(document, excerpt.tokens)?);
        }
        Ok(TokenBatch::with_origin(sequences, batch.origin))
    }
}

impl Iterator for Batches {
    type Item = Result<TokenBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.schedule.next()?;
        let mut batch = self.read(batch);
        match &mut batch {
            Ok(batch) => {
                self.position = self.schedule.position();
                batch.end = Some(self.position);
            }
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::{BatchOrigin, ByteTokenizer, Corpus, Overlong};

    fn write(directory: &Path, documents: &[Vec<u8>]) {
        for (index, document) in documents.iter().enumerate() {
            fs::write(directory.join(format!("{index:04}.txt")), document).unwrap();
        }
    }

    fn batches(directory: &Path, rule: CutRule, size: BatchSize, seed: u64) -> Batches {
        let corpus = Corpus::open(&[directory.to_owned()], &["txt".to_owned()]).unwrap();
        Batches::new(corpus, rule, size, seed).unwrap()
    }

    fn split(context: u64) -> CutRule {
        CutRule {
            context: Tokens(context),
            overlong: Overlong::Split,
            min_tokens: Tokens(1),
        }
    }

    /// Each input with its target, and how often it comes.
    fn pairs(targets: impl IntoIterator<Item = (u32, u32)>) -> HashMap<(u32, u32), u64> {
        let mut counts = HashMap::new();
        for pair in targets {
            *counts.entry(pair).or_default() += 1;
        }
        counts
    }

    fn documents() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..12)
            .prop_filter("some document has a byte", |documents| {
                documents.iter().any(|document| !document.is_empty())
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn an_epoch_trains_on_every_target_once(
            documents in documents(),
            context in 1u64..80,
            size in 1usize..5,
            by_tokens in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &documents);
            let size = if by_tokens { BatchSize::Tokens(Tokens(size as u64 * 25)) } else { BatchSize::Sequences(size) };
            let mut batches = batches(root.path(), split(context), size, seed);
            let num_sequences = batches.census().num_sequences as usize;
            let num_tokens = batches.census().num_tokens;
            let mut sequences = Vec::new();
            while sequences.len() < 2 * num_sequences {
                let batch = batches.next().unwrap().unwrap();
                let len = batch.global_batch().num_tokens().0;
                match size {
                    BatchSize::Tokens(limit) => prop_assert!(len <= limit.0 || batch.sequences.len() == 1),
                    BatchSize::Sequences(limit) => prop_assert_eq!(batch.sequences.len(), limit),
                }
                sequences.extend(batch.sequences);
            }
            let expected = pairs(documents.iter().filter(|document| !document.is_empty()).flat_map(|document| {
                let end = [ByteTokenizer::END_OF_TEXT];
                let ids = document.iter().map(|&byte| u32::from(byte));
                let targets: Vec<u32> = ids.clone().chain(end).collect();
                end.into_iter().chain(ids).zip(targets)
            }));
            for epoch in sequences.chunks(num_sequences).take(2) {
                let found = pairs(epoch.iter().flat_map(|sequence| {
                    assert!(sequence.seq_len().0 <= context);
                    sequence.inputs().iter().copied().zip(sequence.targets().iter().copied())
                }));
                prop_assert_eq!(&found, &expected);
            }
            prop_assert_eq!(num_tokens, expected.values().sum::<u64>());
        }
    }

    fn lens(batches: &mut Batches, num_batches: usize) -> Vec<Vec<u64>> {
        let lens = |batch: TokenBatch| batch.sequences.iter().map(|one| one.seq_len().0).collect();
        batches
            .take(num_batches)
            .map(|batch| lens(batch.unwrap()))
            .collect()
    }

    #[test]
    fn the_order_is_new_every_epoch_and_the_same_for_a_seed() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &(1..30).map(|len| vec![b'x'; len]).collect::<Vec<_>>(),
        );
        let epochs = |seed| {
            lens(
                &mut batches(root.path(), split(100), BatchSize::Sequences(29), seed),
                3,
            )
        };
        let first = epochs(1);
        assert_eq!(first, epochs(1));
        assert_ne!(first, epochs(2));
        assert_ne!(first[0], first[1]);
        assert_ne!(first[1], first[2]);
    }

    #[test]
    fn the_pieces_of_a_long_document_are_spread_over_the_epoch() {
        let root = tempfile::tempdir().unwrap();
        let mut documents = vec![vec![b'x'; 20]; 60];
        documents.push(vec![b'x'; 20 * 100]);
        write(root.path(), &documents);
        let batches = batches(root.path(), split(100), BatchSize::Sequences(10), 7);
        let with_pieces = batches
            .take(8)
            .filter(|batch| batch.as_ref().unwrap().origin.num_pieces > 0)
            .count();
        assert!(with_pieces >= 6, "all pieces are in {with_pieces} batches");
    }

    #[test]
    fn what_a_batch_lost_and_its_epoch_are_told() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[vec![b'x'; 9], vec![b'x'; 3]]);
        let rule = CutRule {
            overlong: Overlong::Truncate,
            ..split(4)
        };
        let mut batches = batches(root.path(), rule, BatchSize::Tokens(Tokens(8)), 0);
        for epoch in 1..4 {
            let origin = batches.next().unwrap().unwrap().origin;
            let expected = BatchOrigin {
                epoch,
                num_pieces: 0,
                num_truncated: 1,
                num_cut_tokens: 6,
            };
            assert_eq!(origin, expected);
        }
    }

    #[test]
    fn an_error_ends_the_batches() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[vec![b'x'; 9]]);
        let mut batches = batches(root.path(), split(4), BatchSize::Sequences(1), 0);
        assert!(batches.next().unwrap().is_ok());
        fs::remove_file(root.path().join("0000.txt")).unwrap();
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_corpus_without_sequences_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[vec![], vec![b'x'; 9]]);
        let corpus = Corpus::open(&[root.path().to_owned()], &["txt".to_owned()]).unwrap();
        let rule = CutRule {
            overlong: Overlong::Skip,
            ..split(4)
        };
        let error = Batches::new(corpus, rule, BatchSize::Sequences(1), 0).unwrap_err();
        insta::assert_snapshot!(error, @"the corpus gives no sequence (documents: 2; empty: 1; skipped for more than context = 4 tokens: 1; sequences shorter than min_tokens: 0)");
    }
}
