//! The leaves of a tree cover all plans.
//!
//! A leaf stands for the plans that agree with its decisions: a number of micro-batches, then where the longest sequence goes,
//! then the second longest, and so on. The bound of a tree is the least of its leaves', provided that every plan agrees with
//! one of them, and that is not taken on trust: from the root on, wherever no leaf ends, all that can come next is listed
//! here, and has to be covered in turn.
//!
//! - The number of micro-batches: none that is below what the limits of groups ask for, nor other than a multiple of what the
//!   rules ask for; every other one, unless a leaf covers it *or more*.
//! - The next sequence joins an opened group, or opens one of any shape in any opened micro-batch or the next one, unless it
//!   does not fit, or another shape of the same degree and span takes no more of anything. Micro-batches can be put in any
//!   order, as can the groups of one: so it is enough to number them in the order of their longest sequences, and
//!   micro-batches not opened yet are all alike.
//! - Sequences of equal length are alike; whichever comes first, the decisions for both are the same.
//! - Decisions that end at no leaf have to come to nothing: after a few more, no group has room for the next sequence.
//!
//! Decisions are about equal devices; where devices differ, a leaf has none.

use std::collections::BTreeMap;

use crate::Refusal;
use crate::format::{Capacity, Decision, Leaf, OneMicroBatch};
use crate::one_micro_batch;
use crate::relaxation::{Decided, Opened, Relaxation};
use crate::tables::Tables;

/// Sequences that a leaf decides at most.
const MAX_DEPTH: usize = 64;

/// Sets of plans beyond all leaves that are looked into, in search of one, before they count as not covered.
const MOST_BEYOND: usize = 10_000;

/// The bound that leaves give together.
pub(crate) struct Covered {
    pub(crate) bound: f64,
    /// What bounds its plans the least, if that is not the limit.
    pub(crate) weakest: Option<String>,
    /// The number of leaves that were needed.
    pub(crate) num_leaves: usize,
}

/// The leaves whose decisions begin alike.
#[derive(Default)]
struct Branch {
    leaf: Option<usize>,
    next: BTreeMap<Decision, Branch>,
}

struct Cover<'a> {
    relaxation: Relaxation<'a>,
    leaves: &'a [Leaf],
    covered: Covered,
    are_equal: bool,
    /// Sets of plans beyond all leaves that were looked into.
    num_beyond: usize,
}

/// The least time of any plan, by leaves that cover all of them.
pub(crate) fn bound(
    tables: &Tables,
    limit: f64,
    capacity: Capacity,
    leaves: &[Leaf],
    of_one: Option<&OneMicroBatch>,
) -> Result<Covered, Refusal> {
    tables.check_capacity(capacity)?;
    if !(limit >= 0.0 && limit.is_finite()) {
        return Err(Refusal::NotATime {
            key: "limit_s",
            value: limit,
        });
    }
    let mut of_numbers: BTreeMap<(u32, bool), Branch> = BTreeMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        let bad = |fault: &str| Refusal::BadLeaf {
            leaf: index,
            fault: fault.to_owned(),
        };
        if leaf.decisions.len() > MAX_DEPTH {
            return Err(bad("decides more than 64 sequences"));
        }
        if leaf.num_micro_batches == 0 {
            return Err(bad("has 0 micro-batches; plans have at least 1"));
        }
        if leaf.or_more && !leaf.decisions.is_empty() {
            return Err(bad(
                "has decisions; they need a number of micro-batches, without more",
            ));
        }
        let mut branch = of_numbers
            .entry((leaf.num_micro_batches, leaf.or_more))
            .or_default();
        for &decision in &leaf.decisions {
            branch = branch.next.entry(decision).or_default();
        }
        if branch.leaf.replace(index).is_some() {
            return Err(bad("has the decisions of another leaf"));
        }
    }
    let first = tables.cluster.devices()[0];
    let limits_memory = tables.rules.limits_memory();
    let mut devices = tables.cluster.devices().iter();
    let mut cover = Cover {
        relaxation: Relaxation::new(tables, capacity, limit),
        leaves,
        covered: Covered {
            bound: limit,
            weakest: None,
            num_leaves: 0,
        },
        are_equal: devices.all(|device| {
            device.speed() == first.speed() && (!limits_memory || device.memory() == first.memory())
        }),
        num_beyond: 0,
    };
    let none = Branch::default();
    let multiple = u64::from(tables.rules.micro_batches_multiple_of.get());
    let mut num = least_micro_batches(tables);
    // No plan has more micro-batches than sequences.
    while num <= tables.batch.num_sequences() as u64 {
        let decided = |num_micro_batches| Decided {
            num_micro_batches,
            ..Decided::default()
        };
        let mut or_more = of_numbers
            .iter()
            .filter(|((from, or_more), _)| *or_more && u64::from(*from) <= num);
        if let Some(((from, _), branch)) = or_more.next_back() {
            cover.visit(branch, &decided(u64::from(*from)), &mut Vec::new())?;
            break;
        }
        if let Some(proof) = of_one.filter(|_| num == 1) {
            cover.visit_one_micro_batch(proof)?;
        } else {
            let key = u32::try_from(num).map(|num| (num, false));
            let branch = key.ok().and_then(|key| of_numbers.get(&key));
            let visited = cover.visit(branch.unwrap_or(&none), &decided(num), &mut Vec::new());
            if branch.is_none() && visited.is_err() {
                return Err(not_covered(num, &[]));
            }
            visited?;
        }
        num += multiple;
    }
    Ok(cover.covered)
}

impl Cover<'_> {
    /// Bounds all plans of one micro-batch.
    fn visit_one_micro_batch(&mut self, proof: &OneMicroBatch) -> Result<(), Refusal> {
        let bound = one_micro_batch::bound(&self.relaxation, proof);
        let bound = bound.map_err(|fault| Refusal::BadOneMicroBatch { fault })?;
        self.note(bound, || "one_micro_batch".to_owned());
        Ok(())
    }

    /// Takes the bound of a set of plans, and what it is bounded by.
    fn note(&mut self, bound: f64, by: impl FnOnce() -> String) {
        self.covered.num_leaves += 1;
        if bound < self.covered.bound {
            self.covered.bound = bound;
            self.covered.weakest = Some(by());
        }
    }

    /// Bounds all plans that agree with the decisions so far.
    fn visit(
        &mut self,
        branch: &Branch,
        decided: &Decided,
        path: &mut Vec<Decision>,
    ) -> Result<(), Refusal> {
        if let Some(index) = branch.leaf {
            let bound = self.relaxation.bound(decided, &self.leaves[index]);
            let bound = bound.map_err(|fault| Refusal::BadLeaf { leaf: index, fault })?;
            self.note(bound, || format!("leaf {index}"));
            return Ok(());
        }
        self.num_beyond += usize::from(branch.next.is_empty());
        let may_go_on =
            self.are_equal && decided.num_decided < MAX_DEPTH && self.num_beyond <= MOST_BEYOND;
        let class = self.relaxation.tables.class_of_longest(decided.num_decided);
        let Some(class) = class.filter(|_| may_go_on) else {
            return Err(not_covered(decided.num_micro_batches, path));
        };
        let none = Branch::default();
        for (decision, next) in self.next(decided, class) {
            path.push(decision);
            let known = branch.next.get(&decision);
            let visited = self.visit(known.unwrap_or(&none), &next, path);
            // Told where the leaves end, not where a plan beyond them was found.
            if known.is_none() && visited.is_err() {
                return Err(not_covered(decided.num_micro_batches, path));
            }
            visited?;
            path.pop();
        }
        Ok(())
    }

    /// All that can be decided of a sequence of the longest length left.
    fn next(&self, decided: &Decided, class: usize) -> Vec<(Decision, Decided)> {
        let tables = self.relaxation.tables;
        let mut next = Vec::new();
        let mut with = |decision: Decision, group: usize, opened: Option<Opened>| {
            let mut after = decided.clone();
            after.num_decided += 1;
            after.groups.extend(opened);
            let group = &mut after.groups[group];
            group.load = group.load.plus(tables.load(group.shape, class));
            group.seconds += tables.shapes[group.shape].seconds[class];
            after.num_opened = after.num_opened.max(group.micro_batch + 1);
            if group.load.fits(tables.shapes[group.shape].room) {
                next.push((decision, after));
            }
        };
        for group in 0..decided.groups.len() {
            with(Decision::Join(group as u32), group, None);
        }
        let num_opened = decided.num_opened;
        let num_allowed = (num_opened as u64 + 1).min(decided.num_micro_batches) as usize;
        for micro_batch in 0..num_allowed {
            let inside = decided
                .groups
                .iter()
                .filter(|group| group.micro_batch == micro_batch);
            let taken: u32 = inside.map(|group| tables.shapes[group.shape].degree).sum();
            for (shape, of) in tables.shapes.iter().enumerate() {
                if of.is_outdone || of.degree > tables.cluster.num_devices() - taken {
                    continue;
                }
                let opened = Opened {
                    micro_batch,
                    shape,
                    seconds: 0.0,
                    load: Default::default(),
                };
                let decision = Decision::Open {
                    micro_batch: micro_batch as u32,
                    shape: shape as u32,
                };
                with(decision, decided.groups.len(), Some(opened));
            }
        }
        next
    }
}

/// The least number of micro-batches that the limits of groups and the rules allow.
///
/// A sequence of a group of shape `p` takes its bytes of each of `d(p)` devices; a micro-batch offers the budgets of the
/// devices that its groups can use. Its tokens are spread over the ranks, and a group has at most so many sequences.
fn least_micro_batches(tables: &Tables) -> u64 {
    let usable = tables.usable_devices().last().copied().unwrap_or(0);
    let mut budgets = tables.budgets();
    budgets.sort_unstable_by(|a, b| b.cmp(a));
    let budgets = budgets[..usable as usize].iter().copied();
    let bytes = |class: usize| {
        let shapes = 0..tables.shapes.len();
        let fitting = shapes.filter(|&shape| class < tables.shapes[shape].num_fitting);
        let of = |shape: usize| {
            u128::from(tables.shapes[shape].degree) * u128::from(tables.shapes[shape].bytes[class])
        };
        fitting.map(of).min().unwrap_or(0) * u128::from(tables.counts[class])
    };
    let tokens_per_rank = tables
        .rules
        .token_cap
        .map_or(0, |cap| cap.tokens_per_rank.0);
    let degrees = tables.shapes.iter().map(|shape| shape.degree);
    let num_groups = usable / degrees.min().unwrap_or(1);
    let limits: [(u128, u128); 3] = [
        (
            (0..tables.lens.len()).map(bytes).sum(),
            budgets.map(u128::from).sum(),
        ),
        (
            tables.batch.num_tokens().0.into(),
            u128::from(tokens_per_rank) * u128::from(usable),
        ),
        (
            tables.batch.num_sequences() as u128,
            u128::from(tables.rules.most_sequences()) * u128::from(num_groups),
        ),
    ];
    let offered = limits.iter().filter(|(_, offered)| *offered > 0);
    let needed = offered
        .map(|(needed, offered)| needed.div_ceil(*offered))
        .max()
        .unwrap_or(1);
    let multiple = u64::from(tables.rules.micro_batches_multiple_of.get());
    let needed = u64::try_from(needed.max(1)).unwrap_or(u64::MAX / 2);
    needed.div_ceil(multiple).saturating_mul(multiple)
}

fn not_covered(num_micro_batches: u64, path: &[Decision]) -> Refusal {
    let words = path.iter().map(|decision| match decision {
        Decision::Join(group) => format!("joins group {group}"),
        Decision::Open { micro_batch, shape } => {
            format!("opens a group of shape {shape} in micro-batch {micro_batch}")
        }
    });
    let words: Vec<String> = words.collect();
    let decisions = if words.is_empty() {
        String::new()
    } else {
        format!(" whose longest sequence {}", words.join(", then the next "))
    };
    Refusal::NotCovered {
        num_micro_batches,
        decisions,
    }
}
