//! Fingerprint that tells whether two runs draw the same batches.

use lengthwise_core::Tokens;
use serde::{Deserialize, Serialize};

use crate::schedule::Order;
use crate::{BatchSize, ContentFingerprint, CutRule};

/// The documents that batches are drawn from, and the rules. Two runs with the same fingerprint draw the same batches
/// from the same position on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFingerprint {
    /// Documents, the empty ones included.
    pub num_documents: u64,
    /// Sequences of an epoch.
    pub num_sequences: u64,
    /// Tokens of an epoch.
    pub num_tokens: u64,
    /// CRC-32 of the documents' lengths, in their order.
    pub lengths_crc32: u32,
    /// The longest sequence, in tokens.
    pub context: u64,
    /// Treatment of longer documents.
    pub overlong: String,
    /// The shortest sequence, in tokens.
    pub min_tokens: u64,
    /// Tokens of a batch, where they say when it is full.
    pub batch_tokens: Option<u64>,
    /// Sequences of a batch, where they say it.
    pub batch_sequences: Option<u64>,
    /// Of the order of sequences; `None` where they come as they are given.
    pub seed: Option<u64>,
    /// Of each of several sources, its sequences and its share of all tokens; nothing of a single one.
    #[serde(default)]
    pub shares: Vec<String>,
    /// Fingerprint of the documents' content, if it was read.
    #[serde(default)]
    pub content: ContentFingerprint,
}

impl DataFingerprint {
    pub(crate) fn new(
        documents: &[Tokens],
        num_sequences: u64,
        num_tokens: u64,
        rule: &CutRule,
        size: BatchSize,
        order: Order,
    ) -> Self {
        let mut lengths = crc32fast::Hasher::new();
        for document in documents {
            lengths.update(&document.0.to_le_bytes());
        }
        DataFingerprint {
            num_documents: documents.len() as u64,
            num_sequences,
            num_tokens,
            lengths_crc32: lengths.finalize(),
            context: rule.context.0,
            overlong: rule.overlong.to_string(),
            min_tokens: rule.min_tokens.0,
            batch_tokens: match size {
                BatchSize::Tokens(tokens) => Some(tokens.0),
                BatchSize::Sequences(_) => None,
            },
            batch_sequences: match size {
                BatchSize::Tokens(_) => None,
                BatchSize::Sequences(sequences) => Some(sequences as u64),
            },
            seed: match order {
                Order::Shuffled { seed } => Some(seed),
                Order::AsGiven => None,
            },
            shares: Vec::new(),
            content: ContentFingerprint::default(),
        }
    }

    /// Differences from an earlier fingerprint, in words; `None` if there are none.
    ///
    /// ```
    /// use lengthwise_core::Tokens;
    /// use lengthwise_data::{BatchSchedule, BatchSize, CutRule, Order, Overlong};
    ///
    /// let rule = CutRule { context: Tokens(8), overlong: Overlong::Split, min_tokens: Tokens(1) };
    /// let schedule = |seed| {
    ///     let size = BatchSize::Sequences(2);
    ///     BatchSchedule::new(vec![Tokens(20), Tokens(3)], rule, size, Order::Shuffled { seed })
    /// };
    /// let (before, now) = (schedule(1)?.fingerprint(), schedule(2)?.fingerprint());
    /// assert_eq!(now.difference(&before).unwrap(), "the seed of their order changed from 1 to 2");
    /// assert_eq!(now.difference(&now), None);
    /// # Ok::<(), lengthwise_data::DataError>(())
    /// ```
    pub fn difference(&self, before: &Self) -> Option<String> {
        let number = |number: u64| number.to_string();
        let optional = |number: Option<u64>| number.map_or("none".to_owned(), |n| n.to_string());
        // The rules come before their consequences.
        let rules = [
            (
                "the sources and their shares",
                before.shares.join(", "),
                self.shares.join(", "),
            ),
            (
                "the longest sequence",
                number(before.context),
                number(self.context),
            ),
            (
                "what becomes of longer documents",
                before.overlong.clone(),
                self.overlong.clone(),
            ),
            (
                "the shortest sequence",
                number(before.min_tokens),
                number(self.min_tokens),
            ),
            (
                "the tokens of a batch",
                optional(before.batch_tokens),
                optional(self.batch_tokens),
            ),
            (
                "the sequences of a batch",
                optional(before.batch_sequences),
                optional(self.batch_sequences),
            ),
            (
                "the seed of their order",
                optional(before.seed),
                optional(self.seed),
            ),
        ];
        let content = [
            (
                "the number of documents",
                number(before.num_documents),
                number(self.num_documents),
            ),
            (
                "the tokens of an epoch",
                number(before.num_tokens),
                number(self.num_tokens),
            ),
            (
                "the sequences of an epoch",
                number(before.num_sequences),
                number(self.num_sequences),
            ),
            (
                "the checksum of the documents' lengths",
                format!("{:08x}", before.lengths_crc32),
                format!("{:08x}", self.lengths_crc32),
            ),
        ];
        let differs = |(what, before, now): &(&str, String, String)| {
            (before != now).then(|| format!("{what} changed from {before} to {now}"))
        };
        if let Some(difference) = rules.iter().find_map(differs) {
            return Some(difference);
        }
        let follows = content.iter().find_map(differs);
        if follows.is_none() && !self.content.differs(&before.content) {
            return None;
        }
        // The reason why documents differ says more than the difference.
        let words = |name: &str, before: &Option<String>, now: &Option<String>| {
            let (before, now) = (before.as_ref()?, now.as_ref()?);
            differs(&(name, before.clone(), now.clone()))
        };
        let (now, before) = (&self.content, &before.content);
        words("the tokenizer", &before.tokenizer, &now.tokenizer)
            .or_else(|| words("what is trained on", &before.trained_on, &now.trained_on))
            .or(follows)
            .or_else(|| words("the XXH3 of the documents' tokens", &before.xxh3, &now.xxh3))
    }
}
