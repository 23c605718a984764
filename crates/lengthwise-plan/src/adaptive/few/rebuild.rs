//! Destroy and repair (large neighbourhood search): taking a layout apart in places and building it up again.

use super::layout::{Choice, Layout};
use super::table::Table;
use crate::adaptive::random::Random;
use crate::load::Load;

/// The share of choices that are overlooked at random, so that no two attempts are the same.
const OVERLOOKED: f64 = 0.03;

/// The most groups, or single sequences, that are taken out at once.
const MAX_GROUPS_OUT: usize = 3;
const MAX_SEQUENCES_OUT: usize = 6;

/// Takes out whole groups or single sequences.
pub(super) fn take_apart(layout: &mut Layout, table: &Table<'_, '_>, random: &mut Random) {
    let num = table.sequences.len();
    let mut out = Vec::new();
    if random.next() < 0.5 {
        for _ in 0..=random.below(MAX_GROUPS_OUT) {
            if let Some(group) = layout.group_of[random.below(num)] {
                out.extend(layout.members(group));
            }
        }
    } else {
        out.extend((0..=random.below(MAX_SEQUENCES_OUT)).map(|_| random.below(num)));
    }
    layout.remove(table, &out);
}

/// Puts sequences without a group into groups, the longest first; those that fit nowhere stay without.
///
/// Each sequence goes where it costs least: its device-seconds there count with the weight
/// `work_weight`, and the devices that its group gets for it, until the micro-batch ends, with the rest.
pub(super) fn rebuild(
    layout: &mut Layout,
    table: &Table<'_, '_>,
    work_weight: f64,
    random: &mut Random,
) {
    for sequence in 0..table.sequences.len() {
        if layout.group_of[sequence].is_none() {
            let mut choices = Choices {
                layout,
                table,
                times: table.times(sequence),
                memories: table.memories(sequence),
                tokens: table.tokens(sequence),
                least_work: table.sequences[sequence].least_work,
                work_weight,
                best: None,
            };
            choices.collect(random);
            if let Some((_, choice)) = choices.best {
                layout.place(table, sequence, choice);
            }
        }
    }
}

/// The choices for a sequence and the cheapest of them so far.
struct Choices<'a, 'i, 'p> {
    layout: &'a Layout,
    table: &'a Table<'i, 'p>,
    /// Those of the sequence.
    times: &'a [f64],
    memories: &'a [u64],
    tokens: u64,
    least_work: f64,
    work_weight: f64,
    /// The least cost so far and what it is for.
    best: Option<(f64, Choice)>,
}

impl Choices<'_, '_, '_> {
    fn collect(&mut self, random: &mut Random) {
        let open = (0u32..).zip(&self.layout.groups);
        let open = open.filter(|(_, group)| group.num_sequences > 0);
        for (group, _) in open.clone() {
            if random.next() >= OVERLOOKED {
                self.consider_room(group);
            }
        }
        for (index, group) in open {
            if random.next() >= OVERLOOKED {
                self.consider_devices(group.micro_batch, Some(index));
            }
        }
        for micro_batch in 0..self.layout.micro_batches.len() as u32 {
            if random.next() >= OVERLOOKED {
                self.consider_devices(micro_batch, None);
            }
        }
    }

    fn least(&self) -> f64 {
        self.best.map_or(f64::INFINITY, |(cost, _)| cost)
    }

    /// The weighted device-seconds that the sequence takes.
    fn taken(&self, shape: usize) -> f64 {
        let degree = f64::from(self.table.shapes[shape].degree);
        self.work_weight * degree * self.times[shape]
    }

    /// The load that the sequence adds to a group.
    fn load(&self, shape: usize) -> Load {
        Load {
            memory: self.memories[shape],
            host: 0,
            tokens: self.tokens,
            sequences: 1,
        }
    }

    /// Considers the room that a group has.
    fn consider_room(&mut self, group: u32) {
        let Choices { layout, table, .. } = *self;
        let draft_group = layout.groups[group as usize];
        let shape = draft_group.shape as usize;
        let time = layout.times(table, group)[shape] + self.times[shape];
        let load = layout.load(table, group, shape) + self.load(shape);
        let cost = self.taken(shape);
        let target = layout.micro_batches[draft_group.micro_batch as usize].target;
        if time <= target && table.has_room(shape, load) && cost < self.least() {
            let choice = Choice {
                micro_batch: draft_group.micro_batch,
                group: Some(group),
                shape: draft_group.shape,
            };
            self.best = Some((cost, choice));
        }
    }

    /// Considers free devices of the micro-batch at `index`, for a group to grow or for a new one.
    fn consider_devices(&mut self, index: u32, group: Option<u32>) {
        let Choices {
            layout,
            table,
            times,
            ..
        } = *self;
        let micro_batch = layout.micro_batches[index as usize];
        if micro_batch.free == 0 {
            return;
        }
        let draft_group = group.map(|group| layout.groups[group as usize]);
        let degree = draft_group.map_or(0, |draft_group| {
            table.shapes[draft_group.shape as usize].degree
        });
        // In no shape do sequences take fewer device-seconds than each in its cheapest.
        let work = self.least_work + draft_group.map_or(0.0, |draft_group| draft_group.least_work);
        let needed = work * (1.0 - 1e-9);
        if needed > f64::from(degree + micro_batch.free) * micro_batch.target {
            return;
        }
        let larger = draft_group.map_or(0, |draft_group| draft_group.shape as usize + 1);
        let first = larger.max(table.first_of_degree[(needed / micro_batch.target) as usize]);
        let sums = group.map(|group| layout.times(table, group));
        for (shape, &added_time) in times.iter().enumerate().skip(first) {
            let added = table.shapes[shape].degree - degree;
            let kept = (1.0 - self.work_weight) * f64::from(added) * micro_batch.target;
            if added > micro_batch.free || kept >= self.least() {
                return;
            }
            let time = sums.map_or(0.0, |times| times[shape]);
            let load = || group.map_or(Load::default(), |group| layout.load(table, group, shape));
            if time + added_time > micro_batch.target
                || !table.has_room(shape, load() + self.load(shape))
            {
                continue;
            }
            let cost = kept + self.taken(shape);
            if cost >= self.least() {
                return;
            }
            if layout.packs(table, index, group, shape) {
                let choice = Choice {
                    micro_batch: index,
                    group,
                    shape: shape as u32,
                };
                self.best = Some((cost, choice));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        allowed_choices, assert_adds_up, assert_keeps_makespans, each_table, random_layout,
    };
    use super::*;

    #[test]
    fn a_few_groups_or_sequences_are_taken_out_and_nothing_else_moves() {
        let (mut most_groups, mut most_sequences) = (0, 0);
        each_table(50, 600, |table, random| {
            let mut layout = random_layout(table, random);
            let before = layout.clone();
            take_apart(&mut layout, table, random);
            assert_adds_up(&layout, table);
            let mut out = Vec::new();
            for (sequence, group) in before.group_of.iter().enumerate() {
                let now = layout.group_of[sequence];
                assert!(now == *group || now.is_none());
                if let Some(group) = group.filter(|_| now.is_none()) {
                    out.push(group);
                }
            }
            let num_out = out.len();
            out.dedup_by_key(|group| *group);
            out.sort_unstable();
            out.dedup();
            let are_whole = out.iter().all(|&group| layout.members(group).is_empty());
            if are_whole {
                most_groups = most_groups.max(out.len());
                assert!(out.len() <= MAX_GROUPS_OUT.max(MAX_SEQUENCES_OUT));
            } else {
                most_sequences = most_sequences.max(num_out);
                assert!(num_out <= MAX_SEQUENCES_OUT);
            }
        });
        assert!(most_groups >= MAX_GROUPS_OUT && most_sequences == MAX_SEQUENCES_OUT);
    }

    #[test]
    fn rebuilding_moves_nothing_and_keeps_makespans_memory_and_devices() {
        let mut num_placed = 0;
        each_table(51, 400, |table, random| {
            let mut layout = random_layout(table, random);
            take_apart(&mut layout, table, random);
            let before = layout.clone();
            let work_weight = random.next();
            rebuild(&mut layout, table, work_weight, random);
            assert_keeps_makespans(&layout, table);
            for (now, before) in layout.group_of.iter().zip(&before.group_of) {
                assert!(before.is_none() || now == before);
                num_placed += usize::from(now != before);
            }
        });
        assert!(num_placed > 500, "{num_placed}");
    }

    /// The cost of a choice: weighted device-seconds of the sequence, and of the devices that are added for it.
    fn cost(
        layout: &Layout,
        table: &Table<'_, '_>,
        sequence: usize,
        choice: &Choice,
        work_weight: f64,
    ) -> f64 {
        let degree = table.shapes[choice.shape as usize].degree;
        let held = choice.group.map_or(0, |group| {
            table.shapes[layout.groups[group as usize].shape as usize].degree
        });
        let target = layout.micro_batches[choice.micro_batch as usize].target;
        let taken = f64::from(degree) * table.times(sequence)[choice.shape as usize];
        work_weight * taken + (1.0 - work_weight) * f64::from(degree - held) * target
    }

    #[test]
    fn a_sequence_goes_where_it_costs_least() {
        let (mut num, mut num_grown, mut num_new) = (0, 0, 0);
        each_table(52, 600, |table, random| {
            let mut layout = random_layout(table, random);
            take_apart(&mut layout, table, random);
            let work_weight = random.next();
            let Some(sequence) = layout.group_of.iter().position(Option::is_none) else {
                return;
            };
            let mut choices = Choices {
                layout: &layout,
                table,
                times: table.times(sequence),
                memories: table.memories(sequence),
                tokens: table.tokens(sequence),
                least_work: table.sequences[sequence].least_work,
                work_weight,
                best: None,
            };
            // As `collect` does, with nothing overlooked.
            for micro_batch in 0..layout.micro_batches.len() as u32 {
                for group in layout.groups_of(micro_batch) {
                    choices.consider_room(group);
                    choices.consider_devices(micro_batch, Some(group));
                }
                choices.consider_devices(micro_batch, None);
            }
            let found = choices.best;
            let mut least = f64::INFINITY;
            let allowed = allowed_choices(&layout, table, sequence);
            for choice in &allowed {
                let shape = choice.shape;
                let held = choice
                    .group
                    .map(|group| layout.groups[group as usize].shape);
                // A group grows or stays as it is, and has the smallest shape that it may grow to.
                let is_first = held == Some(shape)
                    || !allowed.iter().any(|other| {
                        (other.micro_batch, other.group) == (choice.micro_batch, choice.group)
                            && other.shape < shape
                            && held.is_none_or(|held| other.shape > held)
                    });
                if is_first && held.is_none_or(|held| shape >= held) {
                    least = least.min(cost(&layout, table, sequence, choice, work_weight));
                }
            }
            let Some((stated, choice)) = found else {
                assert!(least.is_infinite(), "something is allowed");
                return;
            };
            let real = cost(&layout, table, sequence, &choice, work_weight);
            assert!(
                (stated - real).abs() <= 1e-9 * real,
                "{stated} is stated, {real} true"
            );
            if table.node_sizes.len() == 1 || table.shapes.iter().all(|one| !one.needs_node()) {
                assert!(
                    (real - least).abs() <= 1e-9 * least,
                    "{real}, and {least} is possible"
                );
            } else {
                assert!(real >= least * (1.0 - 1e-9));
            }
            num += 1;
            num_new += usize::from(choice.group.is_none());
            num_grown += usize::from(
                choice
                    .group
                    .is_some_and(|group| layout.groups[group as usize].shape != choice.shape),
            );
        });
        assert!(
            num > 200 && num_grown > 10 && num_new > 50,
            "{num}, {num_grown}, {num_new}"
        );
    }

    #[test]
    fn where_everything_finds_room_all_is_placed() {
        each_table(53, 200, |table, random| {
            let longest = (0..table.sequences.len()).map(|one| table.times(one)[0]);
            let all: f64 = longest.sum();
            // So many micro-batches that each sequence could have its own, and time for all in any.
            let targets = vec![all + 1.0; table.sequences.len()];
            let mut layout = Layout::empty(table, &targets);
            for _ in 0..20 {
                rebuild(&mut layout, table, random.next(), random);
            }
            assert!(layout.group_of.iter().all(Option::is_some));
            assert_keeps_makespans(&layout, table);
        });
    }
}
