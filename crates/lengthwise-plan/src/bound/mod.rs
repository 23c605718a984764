//! Best-first search over where the longest sequences go, for the lower bound.

mod decisions;
mod items;
mod least_micro_batches;
mod relaxation;
mod usable_devices;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use self::decisions::{Committed, Decisions, Prices};
use self::items::MAX_DEPTH;
pub(crate) use self::least_micro_batches::{least_micro_batches, micro_batches_by};
use self::relaxation::{Bound, Relaxation};
pub(crate) use self::usable_devices::usable_devices;
use crate::deadline::Deadline;
use crate::instance::Instance;
use crate::patterns::{PatternPrices, is_deep};

/// A set of plans, by what they have in common, and a bound for all of them.
struct Node {
    bound: f64,
    decisions: Decisions,
    prices: Prices,
    /// What its own prices say, once they have been asked; before, its bound is a cheaper one.
    evaluated: Option<Bound>,
    /// Whether its prices are its own, not yet those of the node it came from.
    ascended: bool,
    /// Breaks ties, so that the order does not depend on the heap.
    number: usize,
}

/// How hard to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Ascents from one node's prices to better ones.
    pub(crate) num_ascents: usize,
    /// Steps of each.
    pub(crate) num_steps: usize,
    pub(crate) deadline: Deadline,
}

impl Effort {
    /// What is worth spending: prices are looked for with similar lengths merged, so that it does not depend on the batch.
    pub(crate) fn until(deadline: Deadline) -> Self {
        Effort {
            num_ascents: 24,
            num_steps: 32,
            deadline,
        }
    }

    /// What the bound comes to at the first prices, where another one counts.
    pub(crate) fn least(deadline: Deadline) -> Self {
        Effort {
            num_ascents: 0,
            num_steps: 0,
            deadline,
        }
    }
}

/// The least time of any plan, given one that takes `known`, or less; and how many sets of plans it was found by.
pub(crate) fn lower_bound(instance: &Instance<'_>, known: f64, effort: Effort) -> (f64, usize) {
    let (bound, num_bounds) = longest_first_bound(instance, known, effort);
    if bound >= known || !is_deep(instance) {
        return (bound, num_bounds);
    }
    let prices = PatternPrices::of(instance, effort.deadline);
    let bound = bound.max(prices.bound).min(known);
    (bound, num_bounds + prices.num_rounds)
}

/// The least time of any plan, given one that takes `known`: exact once every set of plans is either decided or bounded
/// by `known`, else the least bound of those left when the effort is spent. Tells how often it evaluated a set, too.
pub(crate) fn longest_first_bound(
    instance: &Instance<'_>,
    known: f64,
    effort: Effort,
) -> (f64, usize) {
    if instance.num_sequences() > FEW_SEQUENCES {
        return bound_below(instance, known, effort);
    }
    let more = Effort {
        num_ascents: effort.num_ascents * 2,
        ..effort
    };
    let (bound, num_evaluated) = bound_below(instance, known, more);
    if bound >= known * (1.0 - 1e-9) {
        return (bound, num_evaluated);
    }
    // Prices rise in steps that lead towards what is known, and may be too short where that is near.
    let (other, num_more) = bound_below(instance, known * FARTHER, effort);
    (bound.max(other.min(known)), num_evaluated + num_more)
}

/// Up to so many sequences, single ones decide what the bound comes to, and each evaluation takes little time.
const FEW_SEQUENCES: usize = 40;

/// The same for few sequences as though the plan that is known took so many times as long.
const FARTHER: f64 = 1.2;

/// The least time of any plan that takes less than `known`, else `known`.
///
/// The plans are split by their number of micro-batches, then by where the longest sequence goes (which shape of group,
/// with which longer sequences, in which micro-batch), then the second longest and so on.
fn bound_below(instance: &Instance<'_>, known: f64, effort: Effort) -> (f64, usize) {
    let relaxation = Relaxation::new(instance);
    let mut search = Search {
        open: BinaryHeap::new(),
        num_nodes: 0,
        num_evaluated: 0,
        known,
        relaxation,
    };
    let least = least_micro_batches(instance) as usize;
    search.push_root(least, true);
    let mut ascents = effort.num_ascents;
    while let Some(mut node) = search.open.pop() {
        if node.bound >= known * (1.0 - 1e-9) {
            return (known, search.num_evaluated);
        }
        if node.evaluated.is_some() && ascents == 0 || effort.deadline.has_passed() {
            return (node.bound, search.num_evaluated);
        }
        if node.evaluated.is_none() {
            search.evaluate(&mut node);
            search.open.push(node);
        } else if !node.ascended {
            ascents -= 1;
            search.ascend(&mut node, effort);
            search.open.push(node);
        } else if !search.split(&node) {
            return (node.bound, search.num_evaluated);
        }
    }
    (known, search.num_evaluated)
}

struct Search<'a, 'p> {
    open: BinaryHeap<Node>,
    num_nodes: usize,
    num_evaluated: usize,
    known: f64,
    relaxation: Relaxation<'a, 'p>,
}

impl Search<'_, '_> {
    /// What the makespans together may take in a better plan.
    fn limit(&self, decisions: &Decisions) -> f64 {
        self.known - decisions.num_micro_batches as f64 * self.relaxation.instance.overhead
    }

    fn ascend(&mut self, node: &mut Node, effort: Effort) {
        let limit = self.limit(&node.decisions);
        self.relaxation.ascend(
            &node.decisions,
            &mut node.prices,
            limit,
            effort.num_steps,
            effort.deadline,
        );
        node.ascended = true;
        self.evaluate(node);
    }

    fn evaluate(&mut self, node: &mut Node) {
        self.num_evaluated += 1;
        let limit = self.limit(&node.decisions);
        let bound = self.relaxation.bound(&node.decisions, &node.prices, limit);
        node.bound = node.bound.max(self.step(bound.makespans, limit));
        node.evaluated = Some(bound);
    }

    /// The step time that goes with a sum of makespans.
    fn step(&self, makespans: f64, limit: f64) -> f64 {
        // Sums of many terms may err in their last digits; the bound must not.
        makespans * (1.0 - 1e-10) + self.known - limit
    }

    fn push_root(&mut self, num_micro_batches: usize, or_more: bool) {
        let decisions = Decisions {
            num_micro_batches,
            or_more,
            ..Decisions::default()
        };
        let limit = self.limit(&decisions);
        let prices = self.relaxation.first_prices();
        // Told at once, so that there is a bound however little time there is.
        let bound = self.relaxation.bound(&decisions, &prices, limit);
        self.push(self.step(bound.makespans, limit), decisions, prices);
    }

    /// Adds a child whose decisions go one sequence further than its parent's.
    fn push_child(&mut self, parent: &Node, decisions: Decisions, prices: Prices) {
        let limit = self.limit(&decisions);
        let bound = parent.evaluated.map_or(0.0, |before| {
            let makespans = self
                .relaxation
                .bound_after(before, &decisions, &prices, limit);
            self.step(makespans, limit)
        });
        self.push(parent.bound.max(bound), decisions, prices);
    }

    fn push(&mut self, bound: f64, decisions: Decisions, prices: Prices) {
        if self.limit(&decisions) > 0.0 && bound < self.known * (1.0 - 1e-9) {
            self.num_nodes += 1;
            self.open.push(Node {
                bound,
                decisions,
                prices,
                evaluated: None,
                ascended: false,
                number: self.num_nodes,
            });
        }
    }

    /// Replaces a node by those of one more decision; `false` where none is left to take.
    fn split(&mut self, node: &Node) -> bool {
        let decisions = &node.decisions;
        if decisions.or_more {
            let rules = &self.relaxation.instance.problem.rules;
            let next = decisions.num_micro_batches + rules.micro_batches_multiple_of.get() as usize;
            self.push_root(decisions.num_micro_batches, false);
            self.push_root(next, true);
            return true;
        }
        let instance = self.relaxation.instance;
        let depth = decisions.num_decided;
        if depth >= MAX_DEPTH.min(instance.num_sequences()) || !instance.devices.are_equal() {
            return false;
        }
        for (index, group) in decisions.groups.iter().enumerate() {
            let memory = self.relaxation.decided_memory(depth, group.shape);
            if let Some(time) = self.relaxation.decided_time(depth, group.shape)
                && group.memory + memory <= 1.0 + 1e-9
            {
                let child = decisions.with_sequence(index, time, memory);
                self.push_child(node, child, node.prices.clone());
            }
        }
        let newly_opened = (decisions.num_opened + 1).min(decisions.num_micro_batches);
        for micro_batch in 0..newly_opened {
            let inside = decisions
                .groups
                .iter()
                .filter(|group| group.micro_batch == micro_batch);
            let taken: u32 = inside
                .map(|group| instance.shapes[group.shape].degree)
                .sum();
            for (shape, figures) in instance.shapes.iter().enumerate() {
                let Some(time) = self.relaxation.decided_time(depth, shape) else {
                    continue;
                };
                if taken + figures.degree <= instance.problem.cluster.num_devices() {
                    let child = decisions.with_group(Committed {
                        micro_batch,
                        shape,
                        time,
                        memory: self.relaxation.decided_memory(depth, shape),
                    });
                    let all_opened = child.num_opened == child.num_micro_batches;
                    let prices = node.prices.with_group(decisions, micro_batch, all_opened);
                    self.push_child(node, child, prices);
                }
            }
        }
        true
    }
}

impl Ord for Node {
    /// The least bound comes first out of the heap; of equal ones the deeper, then the older.
    fn cmp(&self, other: &Self) -> Ordering {
        let depth = self.decisions.num_decided.cmp(&other.decisions.num_decided);
        let bound = other.bound.total_cmp(&self.bound);
        bound.then(depth).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Node {}
