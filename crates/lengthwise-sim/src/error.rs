//! The reasons why a step can't be simulated.

use lengthwise_core::{PlanViolation, Rank, Strategy};
use thiserror::Error;

/// Why a step can't be simulated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SimError {
    /// A plan that no cluster could run.
    #[error("the plan can't be run: {0}")]
    Plan(#[from] PlanViolation),
    /// A group whose costs are not known.
    #[error(
        "group {group} of micro-batch {micro_batch} has the strategy {strategy}, of which the costs say nothing"
    )]
    Unpriced {
        /// Counted from 0.
        micro_batch: usize,
        /// Counted from 0.
        group: usize,
        /// How the group shares its sequences.
        strategy: Strategy,
    },
    /// A figure that is no quantity.
    #[error("{name} is {value}; it must be finite and {rule}")]
    BadFigure {
        /// The figure.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The rule beside being finite.
        rule: &'static str,
    },
    /// A model without layers.
    #[error("num_layers is 0; a model has at least one layer")]
    NoLayers,
    /// Nodes that can't reach each other.
    #[error(
        "nics_per_node is 0; the {num_nodes} nodes of the cluster need at least one each to reach each other"
    )]
    NoNics {
        /// How many nodes there are.
        num_nodes: usize,
    },
    /// The step's script breaks its own order.
    #[error(
        "rank {rank} waits for a call that not all ranks come to; the simulated step never ends"
    )]
    Stuck {
        /// The first such rank.
        rank: Rank,
    },
}
