//! The lower bound: best-first branch and bound over where the longest sequences go, with a Lagrangian relaxation of the rest.
//!
//! | part | where |
//! | --- | --- |
//! | decisions of a node, dual prices of its places | [`decisions`] |
//! | the Lagrangian bound of a node | [`relaxation`] |
//! | better prices, by cutting planes | [`cutting_planes`] |
//! | sequences that are not decided, similar ones merged to look for prices with | [`items`] |
//! | the nodes that prove the bound, for a certificate | [`record`] |
//!
//! `docs/bound.md` proves that it is one.

mod cutting_planes;
mod decisions;
mod items;
mod least_micro_batches;
mod one_micro_batch;
mod record;
mod relaxation;
mod usable_devices;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use self::decisions::{Committed, Decisions, DualPrices};
use self::items::MAX_DEPTH;
pub(crate) use self::least_micro_batches::{least_micro_batches, micro_batches_by};
pub(crate) use self::record::capacity;
use self::record::{Reason, Record, Step};
use self::relaxation::{Bound, Relaxation};
pub(crate) use self::usable_devices::usable_devices;
use lengthwise_certificate::{Decision, Proof};

use crate::deadline::Deadline;
use crate::instance::Instance;
use crate::patterns::{PatternPrices, is_deep};

/// A set of plans, by what they have in common, and a bound for all of them.
struct Node {
    bound: f64,
    decisions: Decisions,
    prices: DualPrices,
    /// The bound at its own prices, once they have been looked for; before, its bound is a cheaper one.
    evaluated: Option<Bound>,
    /// Whether its prices are its own, not yet those of the node it came from.
    ascended: bool,
    /// Breaks ties, so that the order does not depend on the heap.
    number: usize,
    /// Its number in the record, if there is one.
    recorded: usize,
}

/// How hard to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Ascents from one node's prices to better ones.
    pub(crate) num_ascents: usize,
    /// Steps of each.
    pub(crate) num_steps: usize,
    pub(crate) deadline: Deadline,
    pub(crate) keep: Keep,
}

/// How much of a search is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The bound alone.
    Bound,
    /// Why it holds, too.
    Proof,
}

/// A bound that was found.
#[derive(Clone, Debug)]
pub(crate) struct LowerBound {
    /// No plan takes less.
    pub(crate) bound: f64,
    /// How many sets of plans it was found by.
    pub(crate) num_bounds: usize,
    /// Why it holds, if that was asked for.
    pub(crate) proof: Option<Proof>,
}

impl Effort {
    /// The effort worth spending on a plan: prices are looked for with similar lengths merged, so that it does not
    /// depend on the batch.
    pub(crate) fn until(deadline: Deadline) -> Self {
        Effort {
            num_ascents: 24,
            num_steps: 32,
            deadline,
            keep: Keep::Bound,
        }
    }

    /// The effort worth spending on whether plans are worth looking for at all.
    pub(crate) fn brief(deadline: Deadline) -> Self {
        Effort {
            num_ascents: 4,
            ..Self::until(deadline)
        }
    }

    /// The bound at the first prices, where another one counts.
    pub(crate) fn least(deadline: Deadline) -> Self {
        Effort {
            num_ascents: 0,
            num_steps: 0,
            deadline,
            keep: Keep::Bound,
        }
    }

    /// The effort worth spending on a proof alone, where a plan is known to be best: for tiny batches.
    pub(crate) fn for_proof() -> Self {
        Effort {
            num_ascents: 2000,
            num_steps: 32,
            deadline: Deadline::default(),
            keep: Keep::Proof,
        }
    }

    /// The same, for this to be kept.
    pub(crate) fn keeping(self, keep: Keep) -> Self {
        Effort { keep, ..self }
    }
}

/// The least time of any plan, given one that takes `known`, or less.
pub(crate) fn lower_bound(instance: &Instance<'_>, known: f64, effort: Effort) -> LowerBound {
    let found = longest_first_bound(instance, known, effort);
    if found.bound >= known || !is_deep(instance) {
        return found;
    }
    let prices = PatternPrices::of(instance, effort.deadline);
    found.or_by_patterns(instance, &prices, known, effort.keep)
}

impl LowerBound {
    /// This bound, or that of patterns if it is higher.
    pub(crate) fn or_by_patterns(
        self,
        instance: &Instance<'_>,
        prices: &PatternPrices,
        known: f64,
        keep: Keep,
    ) -> Self {
        let num_bounds = self.num_bounds + prices.num_rounds;
        let is_higher = prices.bound > self.bound;
        if !is_higher {
            return LowerBound { num_bounds, ..self };
        }
        LowerBound {
            bound: prices.bound.min(known),
            num_bounds,
            proof: (keep == Keep::Proof).then(|| prices.proof(instance)),
        }
    }
}

/// The least time of any plan, given one that takes `known`: exact once every set of plans is either decided or bounded
/// by `known`, else the least bound of those left when the effort is spent.
pub(crate) fn longest_first_bound(
    instance: &Instance<'_>,
    known: f64,
    effort: Effort,
) -> LowerBound {
    if instance.num_sequences() > FEW_SEQUENCES {
        return bound_below(instance, known, effort);
    }
    let more = Effort {
        num_ascents: effort.num_ascents * 2,
        ..effort
    };
    let found = bound_below(instance, known, more);
    if found.bound >= known * (1.0 - 1e-9) {
        return found;
    }
    // DualPrices rise in steps that lead towards what is known, and may be too short where that is near.
    let other = bound_below(instance, known * FARTHER, effort);
    let num_bounds = found.num_bounds + other.num_bounds;
    let (bound, proof) = if other.bound.min(known) > found.bound {
        (other.bound.min(known), other.proof)
    } else {
        (found.bound, found.proof)
    };
    LowerBound {
        bound,
        num_bounds,
        proof,
    }
}

/// Up to so many sequences, single ones decide what the bound comes to, and each evaluation takes little time.
const FEW_SEQUENCES: usize = 40;

/// The same for few sequences as though the plan that is known took so many times as long.
const FARTHER: f64 = 1.2;

/// The least time of any plan that takes less than `known`, else `known`.
///
/// The plans are split by their number of micro-batches, then by where the longest sequence goes (which shape of group,
/// with which longer sequences, in which micro-batch), then the second longest and so on.
fn bound_below(instance: &Instance<'_>, known: f64, effort: Effort) -> LowerBound {
    let mut search = Search {
        open: BinaryHeap::new(),
        num_nodes: 0,
        num_evaluated: 0,
        known,
        relaxation: Relaxation::new(instance),
        record: (effort.keep == Keep::Proof).then(Record::default),
    };
    let bound = search.run(effort);
    let speed = search.relaxation.speed;
    let proof = search.record.map(|record| {
        // Sets of plans that come that near to what is known are not looked at further.
        record.proof(instance, bound.min(known * CLOSE), known, speed)
    });
    LowerBound {
        bound,
        num_bounds: search.num_evaluated,
        proof,
    }
}

/// Bounds within this part of what is known are as good as that.
const CLOSE: f64 = 1.0 - 1e-9;

struct Search<'a, 'p> {
    open: BinaryHeap<Node>,
    num_nodes: usize,
    num_evaluated: usize,
    known: f64,
    relaxation: Relaxation<'a, 'p>,
    record: Option<Record>,
}

impl Search<'_, '_> {
    fn run(&mut self, effort: Effort) -> f64 {
        let least = least_micro_batches(self.relaxation.instance) as usize;
        self.push_root(None, least, true);
        let mut ascents = effort.num_ascents;
        while let Some(mut node) = self.open.pop() {
            if node.bound >= self.known * CLOSE {
                return self.known;
            }
            if node.evaluated.is_some() && ascents == 0 || effort.deadline.has_passed() {
                return node.bound;
            }
            if node.evaluated.is_none() {
                self.evaluate(&mut node);
                self.open.push(node);
            } else if !node.ascended {
                ascents -= 1;
                self.ascend(&mut node, effort);
                self.open.push(node);
            } else if !self.split(&node) {
                return node.bound;
            }
        }
        self.known
    }

    /// The most that the makespans of a better plan may add up to.
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
        if node.decisions.is_one_micro_batch() {
            self.bound_one_micro_batch(node, limit, effort.deadline);
        }
    }

    /// Bounds the plans of one micro-batch by the devices that they need, too.
    fn bound_one_micro_batch(&mut self, node: &mut Node, limit: f64, deadline: Deadline) {
        let known = node.evaluated.map_or(0.0, |bound| bound.makespans);
        if !self.relaxation.instance.devices.are_equal() || known <= 0.0 {
            return;
        }
        let found = self.relaxation.one_micro_batch(known, limit, deadline);
        if let Some(found) = found {
            let step = self.step(found.makespan_s, limit);
            node.bound = node.bound.max(step);
            if let Some(record) = &mut self.record {
                record.improve(node.recorded, step, || Reason::OneMicroBatch(found));
            }
        }
    }

    fn evaluate(&mut self, node: &mut Node) {
        self.num_evaluated += 1;
        let limit = self.limit(&node.decisions);
        let bound = self.relaxation.bound(&node.decisions, &node.prices, limit);
        let step = self.step(bound.makespans, limit);
        node.bound = node.bound.max(step);
        node.evaluated = Some(bound);
        if let Some(record) = &mut self.record {
            let reason = || Reason::Prices(node.prices.clone());
            record.improve(node.recorded, step, reason);
        }
    }

    /// The step time that goes with a sum of makespans.
    fn step(&self, makespans: f64, limit: f64) -> f64 {
        // Sums of many terms may err in their last digits; the bound must not.
        makespans * (1.0 - 1e-10) + self.known - limit
    }

    fn push_root(&mut self, parent: Option<&Node>, num_micro_batches: usize, or_more: bool) {
        let decisions = Decisions {
            num_micro_batches,
            or_more,
            ..Decisions::default()
        };
        let limit = self.limit(&decisions);
        let prices = self.relaxation.first_prices();
        // Told at once, so that there is a bound however little time there is.
        let bound = self.relaxation.bound(&decisions, &prices, limit);
        let bound = self.step(bound.makespans, limit);
        let num = num_micro_batches;
        let step = Step::MicroBatches { num, or_more };
        let recorded = self.recorded(parent, step, bound, &decisions, &prices);
        self.push(bound, decisions, prices, recorded);
    }

    /// Adds a child whose decisions go one sequence further than its parent's.
    fn push_child(
        &mut self,
        parent: &Node,
        decision: Decision,
        decisions: Decisions,
        prices: DualPrices,
    ) {
        let limit = self.limit(&decisions);
        let bound = parent.evaluated.map_or(0.0, |before| {
            let makespans = self
                .relaxation
                .bound_after(before, &decisions, &prices, limit);
            self.step(makespans, limit)
        });
        let step = Step::Sequence(decision);
        let recorded = self.recorded(Some(parent), step, bound, &decisions, &prices);
        self.push(parent.bound.max(bound), decisions, prices, recorded);
    }

    /// The number of a new node in the record.
    fn recorded(
        &mut self,
        parent: Option<&Node>,
        step: Step,
        bound: f64,
        decisions: &Decisions,
        prices: &DualPrices,
    ) -> usize {
        // So many overheads alone take as long as what is known.
        let is_too_long = self.limit(decisions) <= 0.0;
        let Some(record) = &mut self.record else {
            return 0;
        };
        let bound = if is_too_long { f64::INFINITY } else { bound };
        record.add(parent.map(|parent| parent.recorded), step, bound, prices)
    }

    fn push(&mut self, bound: f64, decisions: Decisions, prices: DualPrices, recorded: usize) {
        if self.limit(&decisions) > 0.0 && bound < self.known * CLOSE {
            self.num_nodes += 1;
            self.open.push(Node {
                bound,
                decisions,
                prices,
                evaluated: None,
                ascended: false,
                number: self.num_nodes,
                recorded,
            });
        }
    }

    /// Replaces a node by those of one more decision; `false` where none is left to take.
    fn split(&mut self, node: &Node) -> bool {
        let decisions = &node.decisions;
        if decisions.or_more {
            let rules = &self.relaxation.instance.problem.rules;
            let next = decisions.num_micro_batches + rules.micro_batches_multiple_of.get() as usize;
            self.push_root(Some(node), decisions.num_micro_batches, false);
            self.push_root(Some(node), next, true);
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
                let decision = Decision::Join(index as u32);
                self.push_child(node, decision, child, node.prices.clone());
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
                    let decision = Decision::Open {
                        micro_batch: micro_batch as u32,
                        shape: shape as u32,
                    };
                    self.push_child(node, decision, child, prices);
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
