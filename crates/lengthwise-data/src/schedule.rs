//! Assignment of sequences to batches, from the lengths of documents alone.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use lengthwise_core::Tokens;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::blend::Blend;
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
    /// Choice of the next source, if sequences come from several.
    blend: Option<Blend>,
}

/// Documents of which a share of all tokens is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedDocuments {
    /// Their lengths; 0 for an empty one.
    pub documents: Vec<Tokens>,
    /// How many tokens are drawn from these, compared with the weights of the others; above 0.
    pub weight: f64,
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
        Self::cut(documents, rule, size, order)
    }

    /// The batches of several sources, without end, in orders that follow from `seed`. Documents are numbered through all of
    /// them.
    ///
    /// Tokens are drawn from each by its weight, and in every part of the run: after each sequence the tokens of all sources are
    /// as close to their shares as the choice of its source allows. Each source comes in epochs of its own, in a new order each,
    /// in which each of its sequences comes once. A position of these batches is of epoch 1, in which sequences are counted on
    /// without end; going there takes a moment for each million of them.
    ///
    /// ```
    /// use lengthwise_core::Tokens;
    /// use lengthwise_data::{BatchSchedule, BatchSize, CutRule, Overlong, WeightedDocuments};
    ///
    /// let source = |len, weight| WeightedDocuments { documents: vec![Tokens(len); 100], weight };
    /// let rule = CutRule { context: Tokens(64), overlong: Overlong::Split, min_tokens: Tokens(1) };
    /// let sources = vec![source(10, 3.0), source(20, 1.0)];
    /// let mut schedule = BatchSchedule::blended(sources, rule, BatchSize::Tokens(Tokens(800)), 0)?;
    /// let batch = schedule.next().unwrap();
    /// let of_first = batch.excerpts.iter().filter(|excerpt| excerpt.document < 100);
    /// let num_tokens: u64 = of_first.map(|excerpt| excerpt.seq_len().0).sum();
    /// assert_eq!(num_tokens, 600);
    /// # Ok::<(), lengthwise_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A source gives no sequence, a weight is none, or there are too many documents or sequences to number.
    pub fn blended(
        sources: Vec<WeightedDocuments>,
        rule: CutRule,
        size: BatchSize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let mut documents = Vec::new();
        let mut weights = Vec::with_capacity(sources.len());
        for (index, source) in sources.into_iter().enumerate() {
            let WeightedDocuments {
                documents: of_source,
                weight,
            } = source;
            if !(weight.is_finite() && weight > 0.0) {
                return Err(DataError::Weight {
                    source_number: index + 1,
                    weight,
                });
            }
            let mut census = Census::default();
            for num_tokens in &of_source {
                rule.cut(num_tokens.0, &mut census, |_| {});
            }
            if census.num_sequences == 0 {
                return Err(DataError::EmptySource {
                    source_number: index + 1,
                    num_documents: census.num_documents,
                });
            }
            let num_sequences = u32::try_from(census.num_sequences);
            weights.push((
                weight,
                num_sequences.map_err(|_| DataError::TooManyDocuments)?,
            ));
            documents.extend(of_source);
        }
        let order = Order::Shuffled { seed };
        let mut schedule = Self::cut(documents, rule, size, order)?;
        schedule.in_order = Vec::new();
        schedule.blend = Some(Blend::new(&weights, seed));
        Ok(schedule)
    }

    fn cut(
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
            blend: None,
        };
        schedule.begin_epoch(Position::START.epoch);
        Ok(schedule)
    }

    /// The same batches, which end after this many epochs. Those of several sources, which have no epochs in common, do not.
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
        if self.blend.is_some() {
            return self.blended_starting_at(position);
        }
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

    fn blended_starting_at(mut self, position: Position) -> Result<Self, DataError> {
        if position.epoch != Position::START.epoch {
            return Err(DataError::NoSuchPosition {
                position,
                num_sequences: self.census.num_sequences,
            });
        }
        if let Some(blend) = &mut self.blend {
            blend.restart();
        }
        self.position = Position::START;
        while self.position.num_drawn < position.num_drawn {
            let Some(next) = self.next_sequence() else {
                break;
            };
            self.draw(next);
        }
        Ok(self)
    }

    /// Of each source of a blended schedule, its share of all tokens, and the tokens drawn so far; nothing for documents that
    /// are one source.
    pub fn shares(&self) -> Vec<(f64, Tokens)> {
        let shares = self.blend.iter().flat_map(Blend::shares);
        shares
            .map(|(share, num_tokens)| (share, Tokens(num_tokens)))
            .collect()
    }

    /// How far sequences have been drawn.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Counts of the sequences that the documents give in one epoch, and of the losses.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Rule by which documents are cut into sequences.
    pub fn rule(&self) -> &CutRule {
        &self.rule
    }

    /// Fingerprint that is equal for schedules with the same batches; it does not cover the content of documents.
    pub fn fingerprint(&self) -> DataFingerprint {
        DataFingerprint {
            shares: self.blend.iter().flat_map(Blend::described).collect(),
            ..DataFingerprint::new(
                &self.documents,
                self.census.num_sequences,
                self.census.num_tokens,
                &self.rule,
                self.size,
                self.order,
            )
        }
    }

    /// How many batches are left; `None` if they have no end. Draws all of them, unless their number follows.
    pub fn num_batches_left(&self) -> Option<u64> {
        if self.blend.is_some() {
            return None;
        }
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

    /// The sequence that comes next, and its source where there are several.
    fn next_sequence(&mut self) -> Option<Next> {
        if let Some(blend) = &self.blend {
            let (source, place) = blend.next(|place| {
                let tokens = self.tokens(self.places[place as usize]);
                tokens.end - tokens.start
            });
            let excerpt = self.excerpt(self.places[place as usize]);
            return Some(Next { excerpt, source });
        }
        if !self.has_next() {
            return None;
        }
        let drawn = self.in_order[self.position.num_drawn as usize];
        let excerpt = self.excerpt(self.places[drawn as usize]);
        Some(Next { excerpt, source: 0 })
    }

    fn draw(&mut self, next: Next) -> Excerpt {
        if let Some(blend) = &mut self.blend {
            blend.draw(next.source, next.excerpt.seq_len().0);
        }
        self.position.num_drawn += 1;
        next.excerpt
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

/// A sequence that is not drawn yet.
struct Next {
    excerpt: Excerpt,
    source: usize,
}

impl Iterator for BatchSchedule {
    type Item = ScheduledBatch;

    fn next(&mut self) -> Option<ScheduledBatch> {
        let mut excerpts = Vec::new();
        let mut origin = BatchOrigin::default();
        let mut num_tokens = 0u64;
        while let Some(next) = self.next_sequence() {
            let seq_len = next.excerpt.seq_len().0;
            if !self.size.takes(excerpts.len(), num_tokens, seq_len) {
                break;
            }
            num_tokens = num_tokens.saturating_add(seq_len);
            let document_tokens = self.document_tokens(next.excerpt.document as usize);
            origin.count(&self.rule, document_tokens);
            // Before it is drawn: the last sequence of an epoch belongs to that.
            origin.epoch = self
                .blend
                .as_ref()
                .map_or(self.position.epoch, Blend::epoch);
            excerpts.push(self.draw(next));
        }
        (!excerpts.is_empty()).then_some(ScheduledBatch { excerpts, origin })
    }
}
