//! Global batches from a corpus, in a new order every epoch.

use std::ops::Range;

use lengthwise_core::Tokens;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{
    BatchOrigin, ByteTokenizer, Census, Corpus, CutRule, DataError, Overlong, Position, TokenBatch,
};

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As many sequences as come next without exceeding this many tokens; a single sequence may exceed it alone.
    Tokens(Tokens),
    /// This many sequences, at least 1.
    Sequences(usize),
}

/// Batches without end: after an epoch, in which every sequence comes once, the next begins in another order.
///
/// Sequences, not documents, are shuffled, so the pieces of a split document are spread over the epoch. A batch
/// takes sequences strictly in the shuffled order: the first that does not fit begins the next batch. At the end of
/// an epoch a batch is filled up from the next one. The order is a function of seed and epoch alone.
///
/// Only places and lengths are in memory; a sequence is read when its batch is drawn. After an error there are no
/// more batches.
#[derive(Debug)]
pub struct Batches {
    corpus: Corpus,
    rule: CutRule,
    size: BatchSize,
    seed: u64,
    census: Census,
    places: Vec<SequencePlace>,
    /// Indices of `places` in the order of the position's epoch.
    order: Vec<u32>,
    position: Position,
    failed: bool,
}

/// A sequence in the corpus: `context` tokens of `document`, or what is left, from `part * context` on.
#[derive(Clone, Copy, Debug)]
struct SequencePlace {
    document: u32,
    part: u32,
}

impl Batches {
    /// The batches of `corpus` under these rules.
    ///
    /// # Errors
    ///
    /// No document gives a sequence, or there are too many to number.
    pub fn new(
        corpus: Corpus,
        rule: CutRule,
        size: BatchSize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let mut census = Census::default();
        let mut places = Vec::new();
        let context = rule.context.0.max(1);
        let mut fits = true;
        for (document, num_bytes) in (0..).zip(corpus.document_bytes()) {
            let num_tokens = ByteTokenizer::num_tokens(num_bytes);
            rule.cut(
                num_bytes,
                num_tokens,
                &mut census,
                |tokens| match u32::try_from(tokens.start / context) {
                    Ok(part) if places.len() < u32::MAX as usize => {
                        places.push(SequencePlace { document, part })
                    }
                    _ => fits = false,
                },
            );
        }
        if !fits {
            return Err(DataError::TooManyDocuments);
        }
        if places.is_empty() {
            return Err(DataError::NoSequences {
                num_documents: census.num_documents,
                num_empty: census.num_empty,
                num_overlong: census.num_skipped,
                num_short: census.num_short,
                context: rule.context,
            });
        }
        let mut batches = Batches {
            order: (0..places.len() as u32).collect(),
            position: Position::START,
            failed: false,
            corpus,
            rule,
            size,
            seed,
            census,
            places,
        };
        batches.begin_epoch(Position::START.epoch);
        Ok(batches)
    }

    /// The batches from `position` on: those that follow there in a run over the same corpus with the same rules and
    /// seed.
    ///
    /// # Errors
    ///
    /// The position is in no epoch, or beyond the end of one.
    pub fn starting_at(mut self, position: Position) -> Result<Self, DataError> {
        let num_sequences = self.census.num_sequences;
        if position.epoch == 0 || position.num_drawn > num_sequences {
            return Err(DataError::NoSuchPosition {
                position,
                num_sequences,
            });
        }
        self.begin_epoch(position.epoch);
        self.position = position;
        self.failed = false;
        Ok(self)
    }

    /// How far sequences have been drawn; after an error, how far before the batch that could not be read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the corpus becomes in one epoch, and what it loses.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// The documents.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    fn begin_epoch(&mut self, epoch: u64) {
        self.position = Position {
            epoch,
            num_drawn: 0,
        };
        for (index, place) in (0..).zip(&mut self.order) {
            *place = index;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(epoch);
        self.order.shuffle(&mut rng);
    }

    fn tokens(&self, place: SequencePlace) -> Range<u64> {
        let context = self.rule.context.0.max(1);
        let start = u64::from(place.part) * context;
        start
            ..self
                .document_tokens(place)
                .min(start.saturating_add(context))
    }

    fn document_tokens(&self, place: SequencePlace) -> u64 {
        ByteTokenizer::num_tokens(self.corpus.num_bytes(place.document as usize))
    }

    /// The places of the next batch, and the epoch of its last.
    fn next_places(&mut self) -> (Vec<SequencePlace>, u64) {
        let mut chosen = Vec::new();
        let mut num_tokens = 0u64;
        let mut epoch = self.position.epoch;
        loop {
            if self.position.num_drawn == self.order.len() as u64 {
                self.begin_epoch(self.position.epoch.saturating_add(1));
            }
            let drawn = self.order[self.position.num_drawn as usize];
            let place = self.places[drawn as usize];
            let tokens = self.tokens(place);
            num_tokens = num_tokens.saturating_add(tokens.end - tokens.start);
            let full = match self.size {
                BatchSize::Tokens(limit) => num_tokens > limit.0,
                BatchSize::Sequences(limit) => chosen.len() >= limit,
            };
            if full && !chosen.is_empty() {
                return (chosen, epoch);
            }
            chosen.push(place);
            self.position.num_drawn += 1;
            epoch = self.position.epoch;
        }
    }

    fn read(&self, places: &[SequencePlace], epoch: u64) -> Result<TokenBatch, DataError> {
        let context = self.rule.context.0.max(1);
        let mut origin = BatchOrigin {
            epoch,
            ..BatchOrigin::default()
        };
        let mut sequences = Vec::with_capacity(places.len());
        for &place in places {
            let document = place.document as usize;
            let num_bytes = self.corpus.num_bytes(document);
            let tokens = self.tokens(place);
            let rest = self.document_tokens(place).saturating_sub(context);
            if rest > 0 && self.rule.overlong == Overlong::Split {
                origin.num_pieces += 1;
            } else if rest > 0 {
                origin.num_truncated += 1;
                origin.num_cut_tokens += rest;
            }
            let bytes = self
                .corpus
                .read(document, ByteTokenizer::bytes_of(&tokens, num_bytes))?;
            sequences.push(ByteTokenizer::sequence(&tokens, num_bytes, &bytes));
        }
        Ok(TokenBatch::with_origin(sequences, origin))
    }
}

impl Iterator for Batches {
    type Item = Result<TokenBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let before = self.position;
        let (places, epoch) = self.next_places();
        let batch = self.read(&places, epoch);
        if batch.is_err() {
            self.failed = true;
            self.position = before;
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
