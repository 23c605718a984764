//! Assignment of sequences to batches, if documents come one by one.

use std::collections::VecDeque;

use lengthwise_core::Tokens;

use crate::{BatchOrigin, BatchSize, Census, CutRule, Excerpt, ScheduledBatch};

/// How far the documents of a stream have been drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// Documents of which nothing is left.
    pub num_documents: u64,
    /// Sequences of the next one that are drawn already.
    pub num_pieces: u64,
}

/// The batches of documents whose lengths arrive one by one, in the order they arrive.
///
/// Rules are those of a [`BatchSchedule`](crate::BatchSchedule): a batch takes sequences strictly in their order, and
/// the first that does not fit begins the next one. No document need be known before it is asked for.
///
/// ```
/// use lengthwise_core::Tokens;
/// use lengthwise_data::{BatchSize, BatchStream, CutRule, Overlong, StreamPosition};
///
/// let rule = CutRule { context: Tokens(4), overlong: Overlong::Split, min_tokens: Tokens(1) };
/// let mut stream = BatchStream::new(rule, BatchSize::Tokens(Tokens(6)));
/// stream.push(Tokens(9));
/// // 4 tokens and 4 more do not fit; what is left of the document is carried over.
/// assert_eq!(stream.take().unwrap().excerpts[0].tokens, 0..4);
/// assert_eq!(stream.position(), StreamPosition { num_documents: 0, num_pieces: 1 });
/// assert!(stream.take().is_none());
/// stream.end();
/// assert_eq!(stream.take().unwrap().excerpts.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct BatchStream {
    rule: CutRule,
    size: BatchSize,
    census: Census,
    num_pushed: u64,
    /// Pieces of its first document that a resumed stream has drawn already.
    num_pieces_to_skip: u64,
    batch: Vec<Waiting>,
    num_batch_tokens: u64,
    waiting: VecDeque<Waiting>,
    has_ended: bool,
    position: StreamPosition,
}

#[derive(Clone, Debug)]
struct Waiting {
    excerpt: Excerpt,
    num_document_tokens: u64,
}

impl BatchStream {
    /// A stream before its first document.
    pub fn new(rule: CutRule, size: BatchSize) -> Self {
        BatchStream {
            rule,
            size,
            census: Census::default(),
            num_pushed: 0,
            num_pieces_to_skip: 0,
            batch: Vec::new(),
            num_batch_tokens: 0,
            waiting: VecDeque::new(),
            has_ended: false,
            position: StreamPosition::default(),
        }
    }

    /// A stream whose next document is the one that `position` is in; it has that number.
    pub fn starting_at(rule: CutRule, size: BatchSize, position: StreamPosition) -> Self {
        BatchStream {
            num_pushed: position.num_documents,
            num_pieces_to_skip: position.num_pieces,
            position,
            ..Self::new(rule, size)
        }
    }

    /// Adds the next document; one of 0 tokens is empty.
    pub fn push(&mut self, num_tokens: Tokens) {
        let document = self.num_pushed;
        self.num_pushed += 1;
        let skipped = std::mem::take(&mut self.num_pieces_to_skip);
        let start = skipped.saturating_mul(self.rule.context.0.max(1));
        let waiting = &mut self.waiting;
        self.rule.cut(num_tokens.0, &mut self.census, |tokens| {
            if tokens.start >= start {
                waiting.push_back(Waiting {
                    excerpt: Excerpt { document, tokens },
                    num_document_tokens: num_tokens.0,
                });
            }
        });
    }

    /// Says that there are no more documents: the last batch need not be full.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// The next batch, once it is known to be full, or the last one. Its epoch is 0, for a stream knows none.
    pub fn take(&mut self) -> Option<ScheduledBatch> {
        while let Some(next) = self.waiting.front() {
            let seq_len = next.excerpt.seq_len().0;
            if !self
                .size
                .takes(self.batch.len(), self.num_batch_tokens, seq_len)
            {
                break;
            }
            self.num_batch_tokens = self.num_batch_tokens.saturating_add(seq_len);
            self.batch.extend(self.waiting.pop_front());
        }
        // No sequence is shorter than one token.
        let is_full = !self.size.takes(self.batch.len(), self.num_batch_tokens, 1);
        let is_ready = is_full || self.has_ended || !self.waiting.is_empty();
        if self.batch.is_empty() || !is_ready {
            return None;
        }
        self.position = match self.waiting.front() {
            Some(Waiting { excerpt, .. }) => StreamPosition {
                num_documents: excerpt.document,
                num_pieces: excerpt.tokens.start / self.rule.context.0.max(1),
            },
            None => StreamPosition {
                num_documents: self.num_pushed,
                num_pieces: 0,
            },
        };
        self.num_batch_tokens = 0;
        let mut origin = BatchOrigin::default();
        let excerpts = self.batch.drain(..).map(|drawn| {
            origin.count(&self.rule, drawn.num_document_tokens);
            drawn.excerpt
        });
        Some(ScheduledBatch {
            excerpts: excerpts.collect(),
            origin,
        })
    }

    /// How far documents are drawn, after the last batch that was taken.
    pub fn position(&self) -> StreamPosition {
        self.position
    }

    /// Counts of the sequences that the documents so far gave, and of the losses. A resumed stream counts from
    /// its start.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Rule by which documents are cut into sequences.
    pub fn rule(&self) -> &CutRule {
        &self.rule
    }
}
