//! Which sequences make which batch, from the lengths of documents alone.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use lengthwise_core::Tokens;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{
    BatchOrigin, BatchSize, Census, CutRule, DataError, DataFingerprint, Excerpt, Position,
    ScheduledBatch,
};

/// In which order the sequences of an epoch come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In another order every epoch, which is a function of this seed and the epoch alone.
    Shuffled {
        /// Any number.
        seed: u64,
    },
    /// As the documents come, every epoch.
    AsGiven,
}

/// The batches of documents of known lengths: after an epoch, in which every sequence comes once, the next begins.
///
/// Sequences, not documents, are shuffled, so the pieces of a split document are spread over the epoch. A batch
/// takes sequences strictly in their order: the first that does not fit begins the next batch. At the end of an
/// epoch a batch is filled up from the next one, unless no other is wanted.
#[derive(Clone, Debug)]
pub struct BatchSchedule {
    documents: Arc<[Tokens]>,
    rule: CutRule,
    size: BatchSize,
    order: Order,
    census: Census,
    places: Arc<[Place]>,
    /// Indices of `places` in the order of the position's epoch.
    in_order: Vec<u32>,
    position: Position,
    num_epochs: Option<NonZero<u64>>,
}

/// A sequence: `context` tokens of `document`, or what is left, from `part * context` on.
#[derive(Clone, Copy, Debug)]
struct Place {
    document: u32,
    part: u32,
}

impl BatchSchedule {
    /// The batches of documents with these lengths, without end. A document of 0 tokens is empty.
    ///
    /// # Errors
    ///
    /// No document gives a sequence, or there are too many to number.
    pub fn new(
        documents: Vec<Tokens>,
        rule: CutRule,
        size: BatchSize,
        order: Order,
    ) -> Result<Self, DataError> {
        let mut census = Census::default();
        let mut places = Vec::new();
        let context = rule.context.0.max(1);
        size.check()?;
        if u32::try_from(documents.len()).is_err() {
            return Err(DataError::TooManyDocuments);
        }
        let mut fits = true;
        for (document, &num_tokens) in (0..).zip(&documents) {
            rule.cut(num_tokens.0, &mut census, |tokens| {
                match u32::try_from(tokens.start / context) {
                    Ok(part) if places.len() < u32::MAX as usize => {
                        places.push(Place { document, part })
                    }
                    _ => fits = false,
                }
            });
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
        let mut schedule = BatchSchedule {
            documents: documents.into(),
            rule,
            size,
            order,
            census,
            in_order: (0..places.len() as u32).collect(),
            places: places.into(),
            position: Position::START,
            num_epochs: None,
        };
        schedule.begin_epoch(Position::START.epoch);
        Ok(schedule)
    }

    /// The same batches, which end after this many epochs.
    #[must_use]
    pub fn ending_after(mut self, num_epochs: NonZero<u64>) -> Self {
        self.num_epochs = Some(num_epochs);
        self
    }

    /// The batches from `position` on: those that follow there for the same documents, rule and order.
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
        Ok(self)
    }

    /// How far sequences have been drawn.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the documents become in one epoch, and what is lost.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Which sequences documents become.
    pub fn rule(&self) -> &CutRule {
        &self.rule
    }

    /// What tells whether another schedule has the same batches.
    pub fn fingerprint(&self) -> DataFingerprint {
        DataFingerprint::new(
            &self.documents,
            self.census.num_sequences,
            self.census.num_tokens,
            &self.rule,
            self.size,
            self.order,
        )
    }

    /// How many batches are left; `None` if they have no end. Draws all of them, unless their number follows.
    pub fn num_batches_left(&self) -> Option<u64> {
        let num_epochs = self.num_epochs?.get();
        let BatchSize::Sequences(limit) = self.size else {
            return Some(self.clone().count() as u64);
        };
        if self.position.epoch > num_epochs {
            return Some(0);
        }
        let num_epochs_left = num_epochs - self.position.epoch + 1;
        let num_left = num_epochs_left
            .saturating_mul(self.census.num_sequences)
            .saturating_sub(self.position.num_drawn);
        Some(num_left.div_ceil(limit.max(1) as u64))
    }

    /// The first of the longest sequences.
    pub fn longest(&self) -> Excerpt {
        let excerpts = self.places.iter().map(|&place| self.excerpt(place));
        excerpts
            .reduce(|longest, next| {
                if next.seq_len() > longest.seq_len() {
                    next
                } else {
                    longest
                }
            })
            .expect("a schedule has a sequence")
    }

    /// The tokens of a document.
    pub(crate) fn document_tokens(&self, document: usize) -> u64 {
        self.documents[document].0
    }

    fn begin_epoch(&mut self, epoch: u64) {
        self.position = Position {
            epoch,
            num_drawn: 0,
        };
        let Order::Shuffled { seed } = self.order else {
            return;
        };
        for (index, place) in (0..).zip(&mut self.in_order) {
            *place = index;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        self.in_order.shuffle(&mut rng);
    }

    fn excerpt(&self, place: Place) -> Excerpt {
        Excerpt {
            document: place.document.into(),
            tokens: self.tokens(place),
        }
    }

    fn tokens(&self, place: Place) -> Range<u64> {
        let context = self.rule.context.0.max(1);
        let start = u64::from(place.part) * context;
        let end = self.document_tokens(place.document as usize);
        start..end.min(start.saturating_add(context))
    }

    /// Whether there is another sequence; begins its epoch.
    fn has_next(&mut self) -> bool {
        let is_over = |epoch| {
            self.num_epochs
                .is_some_and(|num_epochs| epoch > num_epochs.get())
        };
        let Position { epoch, num_drawn } = self.position;
        if num_drawn < self.in_order.len() as u64 {
            return !is_over(epoch);
        }
        let next = epoch.saturating_add(1);
        if is_over(next) {
            return false;
        }
        self.begin_epoch(next);
        true
    }
}

impl Iterator for BatchSchedule {
    type Item = ScheduledBatch;

    fn next(&mut self) -> Option<ScheduledBatch> {
        let mut excerpts = Vec::new();
        let mut origin = BatchOrigin::default();
        let mut num_tokens = 0u64;
        while self.has_next() {
            let drawn = self.in_order[self.position.num_drawn as usize];
            let excerpt = self.excerpt(self.places[drawn as usize]);
            let seq_len = excerpt.seq_len().0;
            if !self.size.takes(excerpts.len(), num_tokens, seq_len) {
                break;
            }
            num_tokens = num_tokens.saturating_add(seq_len);
            origin.count(&self.rule, self.document_tokens(excerpt.document as usize));
            excerpts.push(excerpt);
            self.position.num_drawn += 1;
            origin.epoch = self.position.epoch;
        }
        (!excerpts.is_empty()).then_some(ScheduledBatch { excerpts, origin })
    }
}
