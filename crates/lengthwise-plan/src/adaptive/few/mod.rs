//! The search for few sequences, where single groups decide: the many short sequences are missing that fill the gaps of large
//! batches.
//!
//! Filling up to makespans decides a group's degree by the first sequence that comes, and those of the others are what is
//! left. Here the sequences of a group come first and its degree follows from them and the makespan:
//!
//! ```text
//! shorten makespans -> take out what no longer fits -> put it in elsewhere -> nothing left out? keep it : take more out
//! ```

mod fit;
mod layout;
mod rebuild;
mod search;
mod spread;
mod table;

use self::layout::Layout;
use self::rebuild::rebuild;
use self::search::search;
use self::spread::spread;
use self::table::Table;
use super::local_search::LocalSearch;
use super::random::Random;
use super::starts::starts;
use crate::bound::least_micro_batches;
use crate::completion::complete;
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::instance::Instance;

/// Batches of more sequences are not searched, but spread evenly; of still more only where the draft takes so many times
/// as long as all devices, kept busy, would.
const MAX_SEARCHED: usize = 64;
const MAX_SPREAD: usize = 256;
const FAR_FROM_BUSY: f64 = 1.1;

/// First makespans that are filled up to.
const NUM_STARTS: usize = 24;

/// Numbers of micro-batches, from the least on, that the batch is spread over.
const NUM_SPREAD: usize = 4;

/// Layouts that are searched from.
const NUM_CANDIDATES: usize = 3;

/// The most swaps of the local search on the best one.
const NUM_SWAPS: usize = 60;

/// By so much makespans are prolonged for what they did not hold, at most so often.
const PROLONGED: f64 = 1.04;
const MAX_PROLONGED: usize = 8;

/// A draft that is at least as good as this one; the same where sequences are many or devices differ.
pub(super) fn improve(instance: &Instance<'_>, draft: Draft, deadline: Deadline) -> Draft {
    let is_large = instance.num_sequences() > MAX_SPREAD;
    if is_large && !is_far_from_busy(instance, &draft) || deadline.has_passed() {
        return draft;
    }
    let Some(table) = Table::of(instance) else {
        return draft;
    };
    let improved = if instance.num_sequences() > MAX_SEARCHED {
        shortest(&table, spreads(&table, deadline).collect())
    } else {
        best_layout(&table, Layout::of(&table, &draft), deadline)
    };
    let improved = improved.and_then(|layout| layout.to_draft(&table));
    let improved = improved.and_then(|draft| complete(instance, draft));
    let improved = improved.map(|draft| {
        if deadline.has_passed() {
            return draft;
        }
        LocalSearch::new(instance, draft).run(NUM_SWAPS)
    });
    match improved {
        Some(improved) if improved.step_time(instance) < draft.step_time(instance) => improved,
        _ => draft,
    }
}

fn is_far_from_busy(instance: &Instance<'_>, draft: &Draft) -> bool {
    let overheads = least_micro_batches(instance) * instance.overhead;
    let busy = instance.least_work() / instance.total_speed + overheads;
    draft.step_time(instance) > FAR_FROM_BUSY * busy
}

/// Layouts of groups that are alike, with few micro-batches.
fn spreads(table: &Table<'_, '_>, deadline: Deadline) -> impl Iterator<Item = Layout> {
    let least = least_micro_batches(table.instance) as usize;
    let multiple = table.instance.problem.rules.micro_batches_multiple_of.get() as usize;
    (0..NUM_SPREAD)
        .map(move |more| least + more * multiple)
        .take_while(move |_| !deadline.has_passed())
        .filter_map(move |num| spread(table, num))
}

fn shortest(table: &Table<'_, '_>, layouts: Vec<Layout>) -> Option<Layout> {
    let step_time = |layout: &Layout| layout.step_time(table);
    layouts
        .into_iter()
        .min_by(|a, b| step_time(a).total_cmp(&step_time(b)))
}

fn best_layout(table: &Table<'_, '_>, first: Option<Layout>, deadline: Deadline) -> Option<Layout> {
    if first.as_ref().is_some_and(|first| table.is_optimal(first)) {
        return None;
    }
    let mut random = Random::new(0);
    let mut candidates: Vec<Layout> = first.into_iter().collect();
    candidates.extend(spreads(table, deadline));
    for start in starts(table.instance).into_iter().take(NUM_STARTS) {
        candidates.extend(fill(table, start.targets, &mut random, deadline));
    }
    let step_time = |layout: &Layout| layout.step_time(table);
    candidates.sort_by(|a, b| step_time(a).total_cmp(&step_time(b)));
    candidates.dedup_by(|a, b| step_time(a) == step_time(b));
    candidates.truncate(NUM_CANDIDATES);
    let num_rounds = num_rounds(table) / candidates.len().max(1);
    let searched = candidates
        .into_iter()
        .map(|layout| search(table, layout, num_rounds, &mut random, deadline));
    shortest(table, searched.collect())
}

/// How often makespans are shortened: more often where there is less to move.
fn num_rounds(table: &Table<'_, '_>) -> usize {
    (6000 / table.sequences.len()).clamp(100, 400)
}

/// A layout of the whole batch, with makespans as near to these as its sequences find place in.
fn fill(
    table: &Table<'_, '_>,
    mut targets: Vec<f64>,
    random: &mut Random,
    deadline: Deadline,
) -> Option<Layout> {
    for _ in 0..MAX_PROLONGED {
        for work_weight in [0.5, 0.1, 0.9] {
            if deadline.has_passed() {
                return None;
            }
            let mut layout = Layout::empty(table, &targets);
            rebuild(&mut layout, table, work_weight, random);
            if layout.is_complete(table) {
                layout.tighten(table);
                return Some(layout);
            }
        }
        targets.iter_mut().for_each(|target| *target *= PROLONGED);
    }
    None
}
