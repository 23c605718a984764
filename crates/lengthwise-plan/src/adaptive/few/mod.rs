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

#[cfg(test)]
mod tests {
    use super::layout::Choice;
    use super::*;
    use crate::common::few::few_sequences;
    use crate::common::{Case, Size, cases, exact, sample};

    /// Calls `check` with the tables of so many problems: of few sequences on 8 to 64 equal devices, and of fewer on small
    /// clusters with several nodes.
    pub(super) fn each_table(
        seed: u8,
        num: usize,
        mut check: impl FnMut(&Table<'_, '_>, &mut Random),
    ) {
        let size = Size {
            num_nodes: 3,
            devices_per_node: 4,
            num_sequences: 12,
            seq_len: 60_000,
        };
        let small = sample(cases(size), seed, num / 2);
        for (index, case) in sample(few_sequences(3..=30), seed, num / 2)
            .chain(small)
            .enumerate()
        {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            if let Some(table) = Table::of(&instance) {
                check(&table, &mut Random::new(index));
            }
        }
    }

    /// All that a sequence may be placed as: within makespan, memory and free devices.
    pub(super) fn allowed_choices(
        layout: &Layout,
        table: &Table<'_, '_>,
        sequence: usize,
    ) -> Vec<Choice> {
        let mut choices = Vec::new();
        for micro_batch in 0..layout.micro_batches.len() as u32 {
            let groups = layout.groups_of(micro_batch).into_iter().map(Some);
            for group in groups.chain([None]) {
                for shape in 0..table.shapes.len() {
                    if may_be(layout, table, sequence, (micro_batch, group, shape)) {
                        choices.push(Choice {
                            micro_batch,
                            group,
                            shape: shape as u32,
                        });
                    }
                }
            }
        }
        choices
    }

    fn may_be(
        layout: &Layout,
        table: &Table<'_, '_>,
        sequence: usize,
        (micro_batch, group, shape): (u32, Option<u32>, usize),
    ) -> bool {
        let mut members = group.map_or(Vec::new(), |group| layout.members(group));
        members.push(sequence);
        let times = members.iter().map(|&member| table.times(member)[shape]);
        let memories = members.iter().map(|&member| table.memories(member)[shape]);
        let tokens = members.iter().map(|&member| table.tokens(member));
        let rules = &table.instance.problem.rules;
        let held = group.map_or(0, |group| {
            table.shapes[layout.groups[group as usize].shape as usize].degree
        });
        let room = &layout.micro_batches[micro_batch as usize];
        times.sum::<f64>() <= room.target
            && memories.sum::<u64>() <= table.budget
            && tokens.sum::<u64>() <= table.shapes[shape].most_tokens
            && members.len() <= rules.most_sequences() as usize
            && table.shapes[shape].degree <= held + room.free
            && layout.packs(table, micro_batch, group, shape)
    }

    /// Whether groups of one node take no longer than those of many, as far as there are both.
    fn is_near_faster(table: &Table<'_, '_>) -> bool {
        let shapes = &table.instance.shapes;
        shapes.windows(2).enumerate().all(|(position, shapes)| {
            let [near, far] = [position, position + 1].map(|shape| table.instance.times(shape));
            shapes[0].strategy != shapes[1].strategy || near.iter().zip(far).all(|(a, b)| a <= b)
        })
    }

    /// As many sequences as find room, at random, in up to three micro-batches that they fill about.
    pub(super) fn random_layout(table: &Table<'_, '_>, random: &mut Random) -> Layout {
        let num = random.below(3) + 1;
        let work = table.instance.least_work() / table.instance.total_speed / num as f64;
        let least = work.max(table.instance.least_makespan());
        let targets: Vec<f64> = (0..num).map(|_| least * (1.0 + random.next())).collect();
        let mut layout = Layout::empty(table, &targets);
        for sequence in 0..table.sequences.len() {
            let choices = allowed_choices(&layout, table, sequence);
            if !choices.is_empty() {
                let chosen = choices[random.below(choices.len())];
                layout.place(table, sequence, chosen);
            }
        }
        layout
    }

    /// Checks that every sum is that of the sequences, and that devices are in one group at most.
    pub(super) fn assert_adds_up(layout: &Layout, table: &Table<'_, '_>) {
        for (index, group) in (0u32..).zip(&layout.groups) {
            let members = layout.members(index);
            let times = layout.times(table, index);
            for (shape, &time) in times.iter().enumerate() {
                let sum: f64 = members.iter().map(|&one| table.times(one)[shape]).sum();
                assert!((time - sum).abs() <= 1e-9 * sum, "{time} for {sum}");
                let memory = members.iter().map(|&one| table.memories(one)[shape]);
                let load = layout.load(table, index, shape);
                assert_eq!(load.memory, memory.sum::<u64>());
                assert_eq!(load.sequences as usize, members.len());
                let tokens = members.iter().map(|&one| table.tokens(one));
                assert_eq!(load.tokens, tokens.sum::<u64>());
            }
            let works = members.iter().map(|&one| table.sequences[one].least_work);
            let work: f64 = works.sum();
            assert!((group.least_work - work).abs() <= 1e-9 * work);
        }
        for (index, micro_batch) in (0u32..).zip(&layout.micro_batches) {
            let groups = layout.groups_of(index).into_iter();
            let degrees = groups
                .map(|group| table.shapes[layout.groups[group as usize].shape as usize].degree);
            assert_eq!(micro_batch.free + degrees.sum::<u32>(), table.num_devices);
        }
    }

    /// Checks that all groups end within the makespans of their micro-batches, and fit.
    pub(super) fn assert_keeps_makespans(layout: &Layout, table: &Table<'_, '_>) {
        assert_adds_up(layout, table);
        for (index, micro_batch) in (0u32..).zip(&layout.micro_batches) {
            for group in layout.groups_of(index) {
                let shape = layout.groups[group as usize].shape as usize;
                let time = layout.times(table, group)[shape];
                assert!(time <= micro_batch.target * (1.0 + 1e-9));
                assert!(table.has_room(shape, layout.load(table, group, shape)));
            }
            assert!(layout.packs_all(table, index));
        }
    }

    #[test]
    fn layouts_become_drafts_of_the_same_time() {
        let mut num_complete = 0;
        each_table(40, 300, |table, random| {
            let layout = random_layout(table, random);
            if layout.is_complete(table)
                && let Some(layout) = layout.settled(table)
                && let Some(draft) = layout.to_draft(table)
            {
                num_complete += 1;
                let (time, expected) = (draft.step_time(table.instance), layout.step_time(table));
                let rounding = 1e-9 * expected;
                if table.node_sizes.len() == 1 {
                    assert!((time - expected).abs() <= rounding);
                } else if is_near_faster(table) {
                    // Groups for which any nodes will do may find one.
                    assert!(time <= expected + rounding);
                }
                if let Some(again) = Layout::of(table, &draft) {
                    assert!(again.step_time(table) <= time + rounding);
                    assert_keeps_makespans(&again, table);
                } else {
                    assert!(table.node_sizes.len() > 1);
                }
            }
        });
        assert!(num_complete > 100, "{num_complete}");
    }

    #[test]
    fn the_search_comes_to_the_optimum_of_a_handful_of_sequences() {
        let is_small =
            |case: &Case| case.cluster.num_devices() <= 8 && case.space.strategies().len() <= 4;
        let (mut num, mut num_optimal, mut worst) = (0, 0, 1.0f64);
        for case in sample(few_sequences(3..=7), 41, 400).filter(is_small) {
            let instance = Instance::new(case.problem()).unwrap();
            let table = Table::of(&instance).unwrap();
            let best = exact::best_step(&case).unwrap();
            let found = best_layout(&table, None, Deadline::default()).unwrap();
            let time = found.step_time(&table);
            assert!(
                time >= best * (1.0 - 1e-9),
                "{time} is below {best}: {case:?}"
            );
            num += 1;
            num_optimal += usize::from(time <= best * (1.0 + 1e-9));
            worst = worst.max(time / best);
        }
        assert!(num >= 50, "{num}");
        assert!(
            num_optimal * 100 >= num * 95 && worst < 1.03,
            "{num_optimal} of {num}, {worst}"
        );
    }

    #[test]
    fn no_draft_gets_slower() {
        each_table(42, 100, |table, random| {
            let layout = random_layout(table, random);
            if layout.is_complete(table)
                && let Some(draft) = layout.to_draft(table)
            {
                let before = draft.step_time(table.instance);
                let improved = improve(table.instance, draft, Deadline::default());
                assert!(improved.step_time(table.instance) <= before);
                let placed: u32 = improved.placed.iter().map(|placed| placed.count).sum();
                assert_eq!(placed as usize, table.sequences.len());
            }
        });
    }

    #[test]
    fn makespans_that_are_too_short_are_prolonged_until_they_hold_the_batch() {
        each_table(43, 100, |table, random| {
            let total = table.instance.least_work() / table.instance.total_speed;
            let long = total.max(table.instance.least_makespan());
            let num = least_micro_batches(table.instance) as usize;
            let targets = vec![0.9 * long; num];
            if let Some(layout) = fill(table, targets.clone(), random, Deadline::default()) {
                assert!(layout.is_complete(table));
                assert_keeps_makespans(&layout, table);
                let most = PROLONGED.powi(MAX_PROLONGED as i32 - 1) * targets[0];
                assert!(
                    layout
                        .micro_batches
                        .iter()
                        .all(|one| one.target <= most * (1.0 + 1e-9))
                );
            }
        });
    }
}
