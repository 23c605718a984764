//! The interface between costs and those who decide by them.

use lengthwise_core::{Cluster, Group, MemoryModel, Seconds, Strategy, Tokens};

/// Where the members of a group are: what they exchange is slower once it leaves a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// All on one node.
    OneNode,
    /// On two nodes or more.
    ManyNodes,
}

/// All that the time of a group depends on, beside its sequences and the speed of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupShape {
    /// How its ranks scatter a sequence.
    pub strategy: Strategy,
    /// Whether they are on one node.
    pub span: Span,
}

impl GroupShape {
    /// The shape of a planned group on `cluster`.
    pub fn of(group: &Group, cluster: &Cluster) -> Self {
        let span = if cluster.crosses_nodes(&group.ranks) {
            Span::ManyNodes
        } else {
            Span::OneNode
        };
        GroupShape {
            strategy: group.strategy,
            span,
        }
    }
}

/// The parts of the time that a sequence adds to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeParts {
    /// Computing what grows with the tokens: norms, projections, MLP.
    pub dense: Seconds,
    /// Computing attention.
    pub attention: Seconds,
    /// All that is waited for: exchanging tokens for heads and back, and what hops and copies take beyond what hides them.
    pub exchange: Seconds,
    /// The part of it that hops of key/value blocks take beyond the attention that hides them.
    pub hops: Seconds,
    /// The part of it that copies of layer inputs take beyond the computing that hides them.
    pub copies: Seconds,
}

/// Predicts the time of groups and, through [`MemoryModel`], their memory.
///
/// Times are for devices of nominal speed, and cover all that a step does for a sequence: forward,
/// recomputation and backward of every layer, and the exchanges inside the group.
pub trait CostModel: MemoryModel + Send + Sync {
    /// Whether it knows what groups of this strategy cost. Nothing may be planned with others, which take for ever.
    fn prices(&self, strategy: Strategy) -> bool;

    /// The time that a sequence of `seq_len` tokens adds to a group of this shape.
    ///
    /// Additive over the sequences of a group, and not decreasing in `seq_len`.
    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds;

    /// [`CostModel::sequence_time`] of each of these lengths: what is the same for all may be worked out once.
    fn sequence_times(&self, shape: GroupShape, seq_lens: &[Tokens]) -> Vec<Seconds> {
        let seq_lens = seq_lens.iter();
        seq_lens
            .map(|&seq_len| self.sequence_time(shape, seq_len))
            .collect()
    }

    /// The parts of [`CostModel::sequence_time`]: dense, attention and exchange add up to it.
    ///
    /// A model that can't tell the parts apart calls all of it dense.
    fn time_parts(&self, shape: GroupShape, seq_len: Tokens) -> TimeParts {
        TimeParts {
            dense: self.sequence_time(shape, seq_len),
            ..TimeParts::default()
        }
    }

    /// The time a micro-batch takes whatever its groups hold: parameter gathers, gradient scatters,
    /// kernel launches.
    fn micro_batch_overhead(&self) -> Seconds;
}
