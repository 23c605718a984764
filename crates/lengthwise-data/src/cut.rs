//! How a document becomes sequences that fit the context.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use lengthwise_core::Tokens;

/// Treatment of a document that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlong {
    /// Cut into sequences of the context's length and one with what is left. A piece begins with the last token of
    /// the one before, so no target is lost; but it can't look back across the cut.
    #[default]
    Split,
    /// Only its beginning is trained on.
    Truncate,
    /// It is left out.
    Skip,
}

impl Overlong {
    /// The names that [`FromStr`] reads.
    pub const NAMES: [&str; 3] = ["split", "truncate", "skip"];
}

impl FromStr for Overlong {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "split" => Ok(Overlong::Split),
            "truncate" => Ok(Overlong::Truncate),
            "skip" => Ok(Overlong::Skip),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Overlong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overlong::Split => "split",
            Overlong::Truncate => "truncate",
            Overlong::Skip => "skip",
        })
    }
}

/// Rule by which documents are cut into sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutRule {
    /// The longest sequence, at least 1.
    pub context: Tokens,
    /// Treatment of longer documents.
    pub overlong: Overlong,
    /// The shortest sequence, at most the context; shorter documents and rests of documents are left out.
    pub min_tokens: Tokens,
}

/// Counts of the sequences that a corpus gives in one epoch, and of its losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Documents of the corpus.
    pub num_documents: u64,
    /// Documents without a token, or without a byte in a corpus, left out.
    pub num_empty: u64,
    /// Overlong documents that were split.
    pub num_split: u64,
    /// Overlong documents of which only the beginning is left.
    pub num_truncated: u64,
    /// The tokens they lost.
    pub num_cut_tokens: u64,
    /// Overlong documents that were left out.
    pub num_skipped: u64,
    /// Their tokens.
    pub num_skipped_tokens: u64,
    /// Sequences left out because they are too short.
    pub num_short: u64,
    /// Their tokens.
    pub num_short_tokens: u64,
    /// Sequences of an epoch.
    pub num_sequences: u64,
    /// Their tokens.
    pub num_tokens: u64,
}

impl CutRule {
    /// Gives `sequence` the range of tokens of each sequence that a document of `num_tokens` becomes, and counts what
    /// happens.
    pub(crate) fn cut(
        &self,
        num_tokens: u64,
        census: &mut Census,
        mut sequence: impl FnMut(Range<u64>),
    ) {
        let context = self.context.0.max(1);
        census.num_documents += 1;
        if num_tokens == 0 {
            census.num_empty += 1;
            return;
        }
        let mut end = num_tokens;
        if num_tokens > context {
            match self.overlong {
                Overlong::Split => census.num_split += 1,
                Overlong::Truncate => {
                    census.num_truncated += 1;
                    census.num_cut_tokens += num_tokens - context;
                    end = context;
                }
                Overlong::Skip => {
                    census.num_skipped += 1;
                    census.num_skipped_tokens += num_tokens;
                    return;
                }
            }
        }
        let mut start = 0;
        while start < end {
            let piece = start..end.min(start.saturating_add(context));
            let len = piece.end - piece.start;
            start = piece.end;
            if len < self.min_tokens.0 {
                census.num_short += 1;
                census.num_short_tokens += len;
            } else {
                census.num_sequences += 1;
                census.num_tokens += len;
                sequence(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(overlong: Overlong, min_tokens: u64, num_tokens: u64) -> (Vec<Range<u64>>, Census) {
        let rule = CutRule {
            context: Tokens(4),
            overlong,
            min_tokens: Tokens(min_tokens),
        };
        let mut census = Census::default();
        let mut sequences = Vec::new();
        rule.cut(num_tokens, &mut census, |tokens| sequences.push(tokens));
        let counted = census.num_tokens
            + census.num_cut_tokens
            + census.num_skipped_tokens
            + census.num_short_tokens;
        assert_eq!(counted, num_tokens);
        (sequences, census)
    }

    #[test]
    fn overlong_documents_are_split_truncated_or_skipped() {
        assert_eq!(cut(Overlong::Split, 1, 9).0, [0..4, 4..8, 8..9]);
        assert_eq!(cut(Overlong::Split, 1, 8).0, [0..4, 4..8]);
        assert_eq!(cut(Overlong::Truncate, 1, 9).0, vec![0..4; 1]);
        assert_eq!(cut(Overlong::Skip, 1, 9).0, []);
        for overlong in [Overlong::Split, Overlong::Truncate, Overlong::Skip] {
            assert_eq!(cut(overlong, 1, 4).0, vec![0..4; 1]);
        }
    }

    #[test]
    fn what_is_lost_is_counted() {
        let census = cut(Overlong::Split, 2, 9).1;
        assert_eq!(
            (census.num_split, census.num_short, census.num_short_tokens),
            (1, 1, 1)
        );
        let census = cut(Overlong::Truncate, 1, 9).1;
        assert_eq!((census.num_truncated, census.num_cut_tokens), (1, 5));
        let census = cut(Overlong::Skip, 1, 9).1;
        assert_eq!((census.num_skipped, census.num_skipped_tokens), (1, 9));
        let (sequences, census) = cut(Overlong::Split, 1, 0);
        assert_eq!((sequences.len(), census.num_empty), (0, 1));
    }
}
