//! Which tokens attend to which, and with which heads.

use std::ops::Range;

/// The shape of one variable-length causal attention: packed sequences, and the heads computed here.
///
/// Queries are `[tokens, query heads x head_dim]`, keys and values `[tokens, key/value heads x head_dim]`.
/// A token attends to itself and to those before it in its own sequence, or to the nearest of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    /// The rows of each packed sequence: adjacent, in order, together all rows.
    pub sequences: Vec<Range<usize>>,
    /// For every query head, the key/value head it reads (grouped-query attention).
    pub kv_head_of: Vec<usize>,
    /// How many key/value heads there are.
    pub num_kv_heads: usize,
    /// The features of a head.
    pub head_dim: usize,
    /// The most tokens that a token attends to, itself included, at least 1; `None` for all before it.
    pub window: Option<usize>,
}

impl AttentionLayout {
    /// How many query heads there are.
    pub fn num_heads(&self) -> usize {
        self.kv_head_of.len()
    }

    /// The first row that the token of `row` attends to, in a sequence that starts at row `start`.
    pub fn first_seen(&self, start: usize, row: usize) -> usize {
        let window = self.window.unwrap_or(usize::MAX);
        start.max((row + 1).saturating_sub(window))
    }

    /// The tokens of all sequences together.
    pub fn num_tokens(&self) -> usize {
        self.sequences.last().map_or(0, |last| last.end)
    }
}
