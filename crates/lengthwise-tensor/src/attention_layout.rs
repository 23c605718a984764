//! Which tokens attend to which, and with which heads.

use std::ops::Range;

/// The shape of one variable-length causal attention: which queries see which keys, and the heads computed here.
///
/// Queries are `[queries, query heads x head_dim]`, keys and values `[keys, key/value heads x head_dim]`.
///
/// Rows of keys may be others than those of queries, such as a block that another rank has sent. A query that no span
/// has, or that sees no key of its span, gets an output of 0 and a log-sum-exp of minus infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    /// Disjoint in their queries, by increasing rows of these.
    pub spans: Vec<AttentionSpan>,
    /// The rows of queries.
    pub num_queries: usize,
    /// The rows of keys and values.
    pub num_keys: usize,
    /// For every query head, the key/value head it reads (grouped-query attention).
    pub kv_head_of: Vec<usize>,
    /// How many key/value heads there are.
    pub num_kv_heads: usize,
    /// The features of a head.
    pub head_dim: usize,
    /// The most tokens that a token attends to, itself included, at least 1; `None` for all before it.
    pub window: Option<usize>,
}

/// Successive tokens of a sequence that attend to successive tokens of the same sequence: each to those that do not come
/// later, and are within its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionSpan {
    /// The rows that attend.
    pub queries: Range<usize>,
    /// The rows that are attended to.
    pub keys: Range<usize>,
    /// By how many tokens the first of the queries comes behind the first of the keys.
    pub lead: usize,
}

impl AttentionSpan {
    /// A whole sequence that attends to itself.
    pub fn whole(rows: Range<usize>) -> Self {
        AttentionSpan {
            queries: rows.clone(),
            keys: rows,
            lead: 0,
        }
    }
}

impl AttentionLayout {
    /// Sequences that attend to themselves, packed one after the other: with grouped-query attention by `kv_head_of`, and
    /// without a window.
    pub fn packed(
        seq_lens: impl IntoIterator<Item = usize>,
        kv_head_of: Vec<usize>,
        num_kv_heads: usize,
        head_dim: usize,
    ) -> Self {
        let mut num_tokens = 0;
        let spans = seq_lens.into_iter().map(|seq_len| {
            let start = num_tokens;
            num_tokens += seq_len;
            AttentionSpan::whole(start..num_tokens)
        });
        AttentionLayout {
            spans: spans.collect(),
            num_queries: num_tokens,
            num_keys: num_tokens,
            kv_head_of,
            num_kv_heads,
            head_dim,
            window: None,
        }
    }

    /// How many query heads there are.
    pub fn num_heads(&self) -> usize {
        self.kv_head_of.len()
    }

    /// Whether every query has a span, in which it sees a key.
    pub(crate) fn has_all_queries(&self) -> bool {
        let window = self.window.unwrap_or(usize::MAX);
        let mut end = 0;
        for span in self.spans.iter().filter(|span| !span.queries.is_empty()) {
            // The last query has left the most keys behind.
            let last = span.lead + span.queries.len() - 1;
            let sees_a_key = last < span.keys.len().saturating_add(window.saturating_sub(1));
            if span.queries.start != end || span.keys.is_empty() || !sees_a_key {
                return false;
            }
            end = span.queries.end;
        }
        end == self.num_queries
    }
}
