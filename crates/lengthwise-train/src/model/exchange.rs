//! The Ulysses exchange: from some tokens with all heads to all tokens with some heads, and back.
//!
//! ```text
//!            before (sequence-sharded)          after to_heads (head-sharded)
//! rank 0     tokens 0-3   heads 0 1 2           tokens 0-6   heads 0 1
//! rank 1     tokens 4-6   heads 0 1 2           tokens 0-6   heads 2
//! ```
//!
//! Neither tokens nor heads need divide by the degree. A key/value head that the query heads of several ranks
//! read is sent to each of them, and their gradients of it are added on the way back.

use std::ops::Range;

use lengthwise_comm::Communicator;
use lengthwise_tensor::{Backend, Tensor};

use super::ModelConfig;
use crate::TrainError;

/// The tensors a communicator moves.
pub type TensorOf<C> = <<C as Communicator>::Backend as Backend>::Tensor;

/// Which heads and tokens each rank of a group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// Query heads by group rank: disjoint, in order, at least one each.
    query_heads: Vec<Range<usize>>,
    /// Key/value heads that these read: neighbours may overlap by one.
    kv_heads: Vec<Range<usize>>,
    /// Rows of the packed tokens by group rank: disjoint, in order, some may be empty.
    tokens: Vec<Range<usize>>,
    head_dim: usize,
    queries_per_kv: usize,
}

/// The `index`-th of `parts` near-equal ranges of `0..len`.
pub fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    len * index / parts..len * (index + 1) / parts
}

impl Shards {
    /// The shards of `num_tokens` packed tokens in a group of `degree` ranks; at most one rank a query head.
    pub fn new(config: &ModelConfig, degree: usize, num_tokens: usize) -> Self {
        assert!(
            degree <= config.heads,
            "degree {degree} exceeds {} heads",
            config.heads
        );
        let queries_per_kv = config.heads / config.kv_heads;
        let query_heads: Vec<_> = (0..degree)
            .map(|rank| part(config.heads, degree, rank))
            .collect();
        let kv_heads = query_heads
            .iter()
            .map(|heads| heads.start / queries_per_kv..(heads.end - 1) / queries_per_kv + 1)
            .collect();
        let tokens = (0..degree)
            .map(|rank| part(num_tokens, degree, rank))
            .collect();
        Shards {
            query_heads,
            kv_heads,
            tokens,
            head_dim: config.head_dim,
            queries_per_kv,
        }
    }

    /// The packed rows of a group rank.
    pub fn tokens(&self, group_rank: usize) -> Range<usize> {
        self.tokens[group_rank].clone()
    }

    /// For each query head of a group rank, the key/value head it reads, counted from the rank's first.
    pub fn kv_head_of(&self, group_rank: usize) -> Vec<usize> {
        let first = self.kv_heads[group_rank].start;
        self.query_heads[group_rank]
            .clone()
            .map(|head| head / self.queries_per_kv - first)
            .collect()
    }

    /// The number of key/value heads of a group rank.
    pub fn num_kv_heads(&self, group_rank: usize) -> usize {
        self.kv_heads[group_rank].len()
    }

    /// `[my tokens, all query heads]` to `[all tokens, my query heads]`.
    pub fn queries_to_heads<C: Communicator>(
        &self,
        group: &C,
        x: TensorOf<C>,
    ) -> Result<TensorOf<C>, TrainError> {
        self.to_heads(group, x, &self.query_heads)
    }

    /// `[my tokens, all key/value heads]` to `[all tokens, my key/value heads]`.
    pub fn kv_to_heads<C: Communicator>(
        &self,
        group: &C,
        x: TensorOf<C>,
    ) -> Result<TensorOf<C>, TrainError> {
        self.to_heads(group, x, &self.kv_heads)
    }

    /// `[all tokens, my query heads]` to `[my tokens, all query heads]`.
    pub fn queries_to_tokens<C: Communicator>(
        &self,
        group: &C,
        y: TensorOf<C>,
    ) -> Result<TensorOf<C>, TrainError> {
        if group.size() == 1 {
            return Ok(y);
        }
        Ok(group
            .backend()
            .concat_cols(&self.scatter_tokens(group, &y)?)?)
    }

    /// `[all tokens, my key/value heads]` to `[my tokens, all key/value heads]`, adding what several ranks
    /// have for the same head.
    pub fn kv_to_tokens_summed<C: Communicator>(
        &self,
        group: &C,
        y: TensorOf<C>,
    ) -> Result<TensorOf<C>, TrainError> {
        if group.size() == 1 {
            return Ok(y);
        }
        let backend = group.backend();
        let received = self.scatter_tokens(group, &y)?;
        let disjoint = self
            .kv_heads
            .windows(2)
            .all(|pair| pair[0].end == pair[1].start);
        if disjoint {
            return Ok(backend.concat_cols(&received)?);
        }
        let num_heads = self.kv_heads.last().map_or(0, |heads| heads.end);
        let mut total = backend.zeros(
            self.tokens[group.rank().index()].len(),
            num_heads * self.head_dim,
        )?;
        for (piece, heads) in received.iter().zip(&self.kv_heads) {
            backend.add_assign_cols(&mut total, heads.start * self.head_dim, piece)?;
        }
        Ok(total)
    }

    fn to_heads<C: Communicator>(
        &self,
        group: &C,
        x: TensorOf<C>,
        heads: &[Range<usize>],
    ) -> Result<TensorOf<C>, TrainError> {
        if group.size() == 1 {
            return Ok(x);
        }
        let backend = group.backend();
        let send: Result<Vec<_>, _> = heads
            .iter()
            .map(|heads| {
                backend.slice_cols(&x, heads.start * self.head_dim..heads.end * self.head_dim)
            })
            .collect();
        drop(x);
        let received = group.all_to_all_v(send?)?;
        Ok(backend.concat_rows(&received)?)
    }

    fn scatter_tokens<C: Communicator>(
        &self,
        group: &C,
        y: &TensorOf<C>,
    ) -> Result<Vec<TensorOf<C>>, TrainError> {
        debug_assert_eq!(y.rows(), self.tokens.last().map_or(0, |tokens| tokens.end));
        let send = self
            .tokens
            .iter()
            .map(|tokens| group.backend().slice_rows(y, tokens.clone()))
            .collect();
        Ok(group.all_to_all_v(send)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Rope};

    fn shards(heads: usize, kv_heads: usize, degree: usize, num_tokens: usize) -> Shards {
        let config = ModelConfig {
            vocab: 1,
            hidden: 2 * heads,
            layers: 1,
            heads,
            kv_heads,
            ffn: 1,
            head_dim: 2,
            rope: Rope::plain(1.0),
            norm_epsilon: 1.0,
            tied_output: false,
            family: Family::LLAMA,
        };
        Shards::new(&config, degree, num_tokens)
    }

    #[test]
    fn heads_that_do_not_divide_are_spread_evenly() {
        let shards = shards(8, 8, 3, 10);
        assert_eq!(shards.query_heads, [0..2, 2..5, 5..8]);
        assert_eq!(shards.tokens, [0..3, 3..6, 6..10]);
    }

    #[test]
    fn ranks_that_share_a_kv_head_each_get_it() {
        let shards = shards(8, 2, 8, 3);
        assert_eq!(shards.kv_heads[3..5], [0..1, 1..2]);
        let shards = self::shards(8, 2, 3, 3);
        assert_eq!(shards.kv_heads, [0..1, 0..2, 1..2]);
        assert_eq!(shards.kv_head_of(1), [0, 0, 1]);
        assert_eq!(shards.num_kv_heads(1), 2);
    }
}
