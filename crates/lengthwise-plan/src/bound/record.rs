//! The proof that a search for a bound leaves behind.

use lengthwise_certificate::{Capacity, Decision, Leaf, OneMicroBatch, Proof};

use super::decisions::DualPrices;
use crate::instance::{Instance, Limit};

/// Every node that a search made, each after the one that it came from.
#[derive(Default)]
pub(super) struct Record {
    nodes: Vec<RecordedNode>,
}

struct RecordedNode {
    parent: Option<usize>,
    step: Step,
    /// The best bound that was found for it and its own decisions, and why it holds.
    bound: f64,
    reason: Reason,
}

/// Why the bound of a node holds.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    Prices(DualPrices),
    /// It has one micro-batch.
    OneMicroBatch(OneMicroBatch),
}

/// The decision of a node beyond those of its parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    MicroBatches { num: usize, or_more: bool },
    Sequence(Decision),
}

impl Record {
    /// Adds a node and tells its number.
    pub(super) fn add(
        &mut self,
        parent: Option<usize>,
        step: Step,
        bound: f64,
        prices: &DualPrices,
    ) -> usize {
        self.nodes.push(RecordedNode {
            parent,
            step,
            bound,
            reason: Reason::Prices(prices.clone()),
        });
        self.nodes.len() - 1
    }

    /// Notes another bound of a node.
    pub(super) fn improve(&mut self, node: usize, bound: f64, reason: impl FnOnce() -> Reason) {
        let node = &mut self.nodes[node];
        if bound > node.bound {
            node.bound = bound;
            node.reason = reason();
        }
    }

    /// The proof of `bound`, found with this limit: on every path from the root the first node whose own bound is no less. Time
    /// prices are of seconds of devices of this speed.
    pub(super) fn proof(
        &self,
        instance: &Instance<'_>,
        bound: f64,
        limit_s: f64,
        speed: f64,
    ) -> Proof {
        let mut is_covered = vec![false; self.nodes.len()];
        let (mut leaves, mut one_micro_batch) = (Vec::new(), None);
        for (index, node) in self.nodes.iter().enumerate() {
            is_covered[index] = node.parent.is_some_and(|parent| is_covered[parent]);
            if is_covered[index] || node.bound < bound {
                continue;
            }
            is_covered[index] = true;
            match &node.reason {
                Reason::Prices(prices) => leaves.push(self.leaf(index, prices, speed)),
                Reason::OneMicroBatch(proof) => one_micro_batch = Some(proof.clone()),
            }
        }
        Proof::Tree {
            limit_s,
            capacity: capacity(instance),
            leaves,
            one_micro_batch,
        }
    }

    fn leaf(&self, index: usize, prices: &DualPrices, speed: f64) -> Leaf {
        let mut leaf = Leaf {
            num_micro_batches: 0,
            or_more: false,
            decisions: Vec::new(),
            time_prices: prices.time.iter().map(|price| price / speed).collect(),
            capacity_prices: prices.memory.clone(),
        };
        let mut at = index;
        loop {
            match self.nodes[at].step {
                Step::Sequence(decision) => leaf.decisions.push(decision),
                // Where that number came from says nothing more.
                Step::MicroBatches { num, or_more } => {
                    leaf.num_micro_batches = num as u32;
                    leaf.or_more = or_more;
                    break;
                }
            }
            let Some(parent) = self.nodes[at].parent else {
                break;
            };
            at = parent;
        }
        leaf.decisions.reverse();
        leaf
    }
}

/// The limit of groups that bounds go by.
pub(crate) fn capacity(instance: &Instance<'_>) -> Capacity {
    match instance.limit {
        Limit::Memory => Capacity::Memory,
        Limit::Tokens => Capacity::Tokens,
        Limit::Sequences => Capacity::Sequences,
    }
}
