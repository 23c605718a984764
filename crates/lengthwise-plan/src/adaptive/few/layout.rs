//! Groups whose shapes are decided last.

use lengthwise_cost::Span;

use super::table::Table;
use crate::draft::Draft;
use crate::load::Load;

/// Sequences in groups of micro-batches that have makespans to keep. A group has the smallest shape that its sequences
/// allow, and gets a larger one as they become more.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) micro_batches: Vec<LayoutMicroBatch>,
    pub(super) groups: Vec<LayoutGroup>,
    /// The group of each sequence.
    pub(super) group_of: Vec<Option<u32>>,
    /// Seconds that each group takes in each shape: `[group][shape]`.
    times: Vec<f64>,
    /// Bytes on each of its devices: `[group][shape]`.
    memories: Vec<u64>,
}

/// A micro-batch of a layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayoutMicroBatch {
    /// The makespan to keep.
    pub(super) target: f64,
    /// Devices that are in no group.
    pub(super) free: u32,
}

/// A group of a layout. Without sequences it has no devices either.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayoutGroup {
    pub(super) micro_batch: u32,
    /// Its position in the table's shapes.
    pub(super) shape: u32,
    pub(super) num_sequences: u32,
    /// Of its sequences.
    pub(super) tokens: u64,
    /// Device-seconds of its sequences, each in its cheapest shape.
    pub(super) least_work: f64,
}

/// A choice for a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) micro_batch: u32,
    /// The group that it joins, if it does not get one of its own.
    pub(super) group: Option<u32>,
    /// The shape that the group has then.
    pub(super) shape: u32,
}

impl Clone for Layout {
    fn clone(&self) -> Self {
        let mut clone = Layout::default();
        clone.clone_from(self);
        clone
    }

    fn clone_from(&mut self, from: &Self) {
        self.micro_batches.clone_from(&from.micro_batches);
        self.groups.clone_from(&from.groups);
        self.group_of.clone_from(&from.group_of);
        self.times.clone_from(&from.times);
        self.memories.clone_from(&from.memories);
    }
}

impl Layout {
    /// Nothing yet, in micro-batches with these makespans.
    pub(super) fn empty(table: &Table<'_, '_>, targets: &[f64]) -> Self {
        let free = table.num_devices;
        Layout {
            micro_batches: targets
                .iter()
                .map(|&target| LayoutMicroBatch { target, free })
                .collect(),
            group_of: vec![None; table.sequences.len()],
            ..Layout::default()
        }
    }

    /// The partition of a draft, each micro-batch with the shortest makespan that it allows; `None` where its groups lie
    /// on nodes in a way that layouts don't find.
    pub(super) fn of(table: &Table<'_, '_>, draft: &Draft) -> Option<Self> {
        let mut layout = Layout::empty(table, &draft.makespans());
        for group in &draft.groups {
            layout.push_group(table, group.micro_batch);
        }
        let mut placed = draft.placed.clone();
        placed.sort_unstable_by(|a, b| b.cmp(a));
        let groups = placed
            .iter()
            .flat_map(|placed| std::iter::repeat_n(placed.group, placed.count as usize));
        for (sequence, group) in groups.enumerate() {
            layout.add(table, sequence, group);
        }
        layout.settled(table)
    }

    /// This layout with the smallest shapes and the shortest makespans that its groups allow; `None` where they don't find
    /// devices enough.
    pub(super) fn settled(mut self, table: &Table<'_, '_>) -> Option<Self> {
        // Sums in another order differ in their last digits.
        self.scale_targets(1.0 + 1e-9);
        let mut micro_batches = 0..self.micro_batches.len() as u32;
        if !micro_batches.all(|micro_batch| self.reshape(table, micro_batch)) {
            return None;
        }
        self.tighten(table);
        Some(self)
    }

    /// Adds a micro-batch of these groups, whose shapes are then to be looked at.
    pub(super) fn push_micro_batch(
        &mut self,
        table: &Table<'_, '_>,
        target: f64,
        groups: &[Vec<usize>],
    ) {
        let micro_batch = self.micro_batches.len() as u32;
        self.open(table, target);
        for sequences in groups {
            let group = self.push_group(table, micro_batch);
            for &sequence in sequences {
                self.add(table, sequence, group);
            }
        }
    }

    /// The draft with these groups, where they lie on the cluster as they should.
    pub(super) fn to_draft(&self, table: &Table<'_, '_>) -> Option<Draft> {
        let instance = table.instance;
        let mut draft = Draft::default();
        let mut placed_as = vec![0; self.groups.len()];
        // All devices are equal, so that any will do.
        let nothing = Load::default();
        for micro_batch in 0..self.micro_batches.len() as u32 {
            let mut groups = self.groups_of(micro_batch);
            groups.sort_by_key(|&group| {
                let shape = table.shapes[self.groups[group as usize].shape as usize];
                (shape.span != Span::OneNode, std::cmp::Reverse(shape.degree))
            });
            draft.open_micro_batch(instance);
            for group in groups {
                let shape = table.shapes[self.groups[group as usize].shape as usize];
                let strategy = instance.shapes[shape.position].strategy;
                placed_as[group as usize] =
                    draft.open_group(instance, micro_batch, strategy, nothing)?;
            }
        }
        for (sequence, group) in self.group_of.iter().enumerate() {
            let class = table.sequences[sequence].class as usize;
            draft.place(instance, class, placed_as[(*group)? as usize]);
        }
        Some(draft)
    }

    /// The groups of a micro-batch that hold something.
    pub(super) fn groups_of(&self, micro_batch: u32) -> Vec<u32> {
        let groups = (0u32..).zip(&self.groups);
        groups
            .filter(|(_, group)| group.micro_batch == micro_batch && group.num_sequences > 0)
            .map(|(index, _)| index)
            .collect()
    }

    /// Seconds that a group takes in each shape.
    pub(super) fn times(&self, table: &Table<'_, '_>, group: u32) -> &[f64] {
        &self.times[group as usize * table.shapes.len()..][..table.shapes.len()]
    }

    /// Bytes on each of its devices.
    pub(super) fn memories(&self, table: &Table<'_, '_>, group: u32) -> &[u64] {
        &self.memories[group as usize * table.shapes.len()..][..table.shapes.len()]
    }

    /// The load of a group in some shape.
    pub(super) fn load(&self, table: &Table<'_, '_>, group: u32, shape: usize) -> Load {
        let LayoutGroup {
            tokens,
            num_sequences: sequences,
            ..
        } = self.groups[group as usize];
        Load {
            memory: self.memories(table, group)[shape],
            host: 0,
            tokens,
            sequences,
        }
    }

    fn push_group(&mut self, table: &Table<'_, '_>, micro_batch: u32) -> u32 {
        self.groups.push(LayoutGroup {
            micro_batch,
            shape: 0,
            num_sequences: 0,
            tokens: 0,
            least_work: 0.0,
        });
        let num_figures = self.groups.len() * table.shapes.len();
        self.times.resize(num_figures, 0.0);
        self.memories.resize(num_figures, 0);
        self.groups.len() as u32 - 1
    }

    /// Places a sequence.
    pub(super) fn place(&mut self, table: &Table<'_, '_>, sequence: usize, choice: Choice) {
        let group = choice.group.unwrap_or_else(|| {
            let empty = self
                .groups
                .iter()
                .position(|group| group.num_sequences == 0);
            match empty {
                Some(empty) => {
                    self.groups[empty].micro_batch = choice.micro_batch;
                    empty as u32
                }
                None => self.push_group(table, choice.micro_batch),
            }
        });
        let before = self.degree(table, group);
        self.add(table, sequence, group);
        self.groups[group as usize].shape = choice.shape;
        let micro_batch = &mut self.micro_batches[choice.micro_batch as usize];
        micro_batch.free = micro_batch.free + before - table.shapes[choice.shape as usize].degree;
    }

    /// Adds a sequence to a group, whose shape is then to be looked at.
    fn add(&mut self, table: &Table<'_, '_>, sequence: usize, group: u32) {
        let num = table.shapes.len();
        let row = group as usize * num..(group as usize + 1) * num;
        let times = self.times[row.clone()].iter_mut();
        for (sum, &time) in times.zip(table.times(sequence)) {
            *sum += time;
        }
        let memories = self.memories[row].iter_mut();
        for (sum, &memory) in memories.zip(table.memories(sequence)) {
            *sum = sum.saturating_add(memory);
        }
        self.groups[group as usize].num_sequences += 1;
        self.groups[group as usize].tokens += table.tokens(sequence);
        self.groups[group as usize].least_work += table.sequences[sequence].least_work;
        self.group_of[sequence] = Some(group);
    }

    /// Takes sequences out of their groups, which get smaller shapes where that is possible.
    pub(super) fn remove(&mut self, table: &Table<'_, '_>, sequences: &[usize]) {
        let left = sequences
            .iter()
            .filter_map(|&sequence| self.group_of[sequence].take());
        let mut left: Vec<u32> = left.collect();
        left.sort_unstable();
        left.dedup();
        for group in left {
            let before = self.degree(table, group);
            self.sum_up(table, group);
            let shape = self.groups[group as usize].shape;
            if let Some(smaller) = self.smaller_shape(table, group, shape as usize) {
                self.groups[group as usize].shape = smaller as u32;
            }
            let after = self.degree(table, group);
            let micro_batch =
                &mut self.micro_batches[self.groups[group as usize].micro_batch as usize];
            micro_batch.free = micro_batch.free + before - after;
        }
    }

    /// Sums a group's figures up anew, so that errors of many changes do not add up.
    pub(super) fn sum_up(&mut self, table: &Table<'_, '_>, group: u32) {
        let num = table.shapes.len();
        let row = group as usize * num..(group as usize + 1) * num;
        self.times[row.clone()].fill(0.0);
        self.memories[row].fill(0);
        self.groups[group as usize].num_sequences = 0;
        self.groups[group as usize].tokens = 0;
        self.groups[group as usize].least_work = 0.0;
        for sequence in self.members(group) {
            self.add(table, sequence, group);
        }
    }

    /// Takes all out of a group, whose devices are then to be looked at.
    pub(super) fn empty_group(&mut self, table: &Table<'_, '_>, group: u32) {
        for sequence in self.members(group) {
            self.group_of[sequence] = None;
        }
        self.sum_up(table, group);
    }

    /// The sequences of a group.
    pub(super) fn members(&self, group: u32) -> Vec<usize> {
        let sequences = 0..self.group_of.len();
        sequences
            .filter(|&sequence| self.group_of[sequence] == Some(group))
            .collect()
    }

    /// The devices of a group.
    fn degree(&self, table: &Table<'_, '_>, group: u32) -> u32 {
        let group = &self.groups[group as usize];
        if group.num_sequences == 0 {
            return 0;
        }
        table.shapes[group.shape as usize].degree
    }

    /// Takes a micro-batch away; what is in it has no group then.
    pub(super) fn close(&mut self, table: &Table<'_, '_>, micro_batch: u32) {
        for group in self.groups_of(micro_batch) {
            self.empty_group(table, group);
        }
        self.micro_batches.remove(micro_batch as usize);
        for group in &mut self.groups {
            // The groups that were in it are empty, so that it does not matter where they are.
            if group.micro_batch > 0 && group.micro_batch >= micro_batch {
                group.micro_batch -= 1;
            }
        }
    }

    /// Adds an empty micro-batch.
    pub(super) fn open(&mut self, table: &Table<'_, '_>, target: f64) {
        let free = table.num_devices;
        self.micro_batches.push(LayoutMicroBatch { target, free });
    }

    /// Closes micro-batches that hold nothing, where their number is free.
    pub(super) fn close_empty(&mut self, table: &Table<'_, '_>) {
        if !table.num_is_free() {
            return;
        }
        for micro_batch in (0..self.micro_batches.len() as u32).rev() {
            if self.groups_of(micro_batch).is_empty() && self.micro_batches.len() > 1 {
                self.close(table, micro_batch);
            }
        }
    }

    /// Makes all makespans so many times as long.
    pub(super) fn scale_targets(&mut self, factor: f64) {
        for micro_batch in &mut self.micro_batches {
            micro_batch.target *= factor;
        }
    }

    /// Whether there are device-seconds enough for the whole batch.
    pub(super) fn has_devices_enough(&self, table: &Table<'_, '_>) -> bool {
        let targets: f64 = self
            .micro_batches
            .iter()
            .map(|micro_batch| micro_batch.target)
            .sum();
        targets * f64::from(table.num_devices)
            >= table.instance.least_work() / table.speed * (1.0 - 1e-9)
    }

    /// Whether every sequence has a group, and every micro-batch one where their number is given.
    pub(super) fn is_complete(&self, table: &Table<'_, '_>) -> bool {
        self.group_of.iter().all(Option::is_some)
            && (table.num_is_free() || {
                let mut micro_batches = 0..self.micro_batches.len() as u32;
                micro_batches.all(|micro_batch| !self.groups_of(micro_batch).is_empty())
            })
    }

    /// Device-seconds of the sequences that have none.
    pub(super) fn missing_work(&self, table: &Table<'_, '_>) -> f64 {
        let sequences = self.group_of.iter().zip(&table.sequences);
        let missing = sequences.filter(|(group, _)| group.is_none());
        missing.map(|(_, sequence)| sequence.least_work).sum()
    }

    /// Seconds that the step takes where every makespan is as long as it may be.
    pub(super) fn step_time(&self, table: &Table<'_, '_>) -> f64 {
        let targets = self
            .micro_batches
            .iter()
            .map(|micro_batch| micro_batch.target);
        targets.sum::<f64>() + table.instance.overhead * self.micro_batches.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use lengthwise_core::PlanRules;

    use super::super::tests::{allowed_choices, assert_adds_up, each_table, random_layout};
    use super::*;
    use crate::adaptive::random::Random;
    use crate::common::few::few_sequences;
    use crate::common::{Case, sample};
    use crate::instance::Instance;

    fn some_sequences(table: &Table<'_, '_>, random: &mut Random) -> Vec<usize> {
        let num = random.below(4) + 1;
        (0..num)
            .map(|_| random.below(table.sequences.len()))
            .collect()
    }

    #[test]
    fn sums_and_free_devices_follow_every_change() {
        each_table(30, 200, |table, random| {
            let mut layout = random_layout(table, random);
            assert_adds_up(&layout, table);
            for _ in 0..20 {
                match random.below(5) {
                    0 => layout.remove(table, &some_sequences(table, random)),
                    1 => layout.open(table, table.instance.least_makespan()),
                    2 if layout.micro_batches.len() > 1 => {
                        layout.close(table, random.below(layout.micro_batches.len()) as u32);
                    }
                    3 => layout.close_empty(table),
                    _ => {
                        let sequence = random.below(table.sequences.len());
                        if layout.group_of[sequence].is_none() {
                            let choices = allowed_choices(&layout, table, sequence);
                            if !choices.is_empty() {
                                let chosen = choices[random.below(choices.len())];
                                layout.place(table, sequence, chosen);
                                let group = layout.group_of[sequence].expect("it was placed");
                                let now = layout.groups[group as usize];
                                assert_eq!(now.micro_batch, chosen.micro_batch);
                                assert_eq!(now.shape, chosen.shape);
                                assert!(chosen.group.is_none_or(|chosen| chosen == group));
                            }
                        }
                    }
                }
                assert_adds_up(&layout, table);
            }
        });
    }

    #[test]
    fn what_is_removed_has_no_group_and_what_stays_has_the_smallest_shape_that_holds_it() {
        let mut num_smaller = 0;
        each_table(31, 400, |table, random| {
            let mut layout = random_layout(table, random);
            let before = layout.clone();
            let out = some_sequences(table, random);
            layout.remove(table, &out);
            assert_adds_up(&layout, table);
            for (sequence, group) in layout.group_of.iter().enumerate() {
                let stays = !out.contains(&sequence);
                assert_eq!(*group, before.group_of[sequence].filter(|_| stays));
            }
            let mut left: Vec<u32> = out.iter().filter_map(|&one| before.group_of[one]).collect();
            left.sort_unstable();
            left.dedup();
            for (index, group) in (0u32..).zip(&layout.groups) {
                let shape = before.groups[index as usize].shape;
                if !left.contains(&index) {
                    assert_eq!(group.shape, shape);
                } else if group.num_sequences > 0 && left.len() == 1 {
                    let smaller = before_with(&before, &layout, index, shape);
                    let smaller = smaller.smaller_shape(table, index, shape as usize);
                    assert_eq!(group.shape, smaller.map_or(shape, |smaller| smaller as u32));
                    num_smaller += usize::from(group.shape < shape);
                }
            }
        });
        assert!(num_smaller > 20, "{num_smaller}");
    }

    /// The layout after a removal with the shape that a group had before.
    fn before_with(before: &Layout, after: &Layout, group: u32, shape: u32) -> Layout {
        let mut layout = after.clone();
        layout.groups[group as usize].shape = shape;
        layout.micro_batches.clone_from(&before.micro_batches);
        layout
    }

    #[test]
    fn a_closed_micro_batch_leaves_the_others_as_they_were() {
        each_table(32, 300, |table, random| {
            let mut layout = random_layout(table, random);
            let before = layout.clone();
            let closed = random.below(layout.micro_batches.len());
            layout.close(table, closed as u32);
            assert_eq!(layout.micro_batches.len() + 1, before.micro_batches.len());
            let kept: Vec<f64> = layout.micro_batches.iter().map(|one| one.target).collect();
            let mut expected: Vec<f64> =
                before.micro_batches.iter().map(|one| one.target).collect();
            expected.remove(closed);
            assert_eq!(kept, expected);
            for (sequence, group) in before.group_of.iter().enumerate() {
                let micro_batch_of = |layout: &Layout| {
                    let group = layout.group_of[sequence]?;
                    Some(layout.groups[group as usize].micro_batch as usize)
                };
                let expected = match group.and(micro_batch_of(&before)) {
                    Some(was) if was > closed => Some(was - 1),
                    Some(was) if was < closed => Some(was),
                    _ => None,
                };
                assert_eq!(micro_batch_of(&layout), expected);
            }
        });
    }

    #[test]
    fn empty_micro_batches_are_closed_but_for_the_last_one_and_where_their_number_is_given() {
        each_table(33, 200, |table, random| {
            let mut layout = random_layout(table, random);
            let busy = (0..layout.micro_batches.len() as u32)
                .filter(|&one| !layout.groups_of(one).is_empty())
                .count();
            layout.open(table, 1.0);
            layout.open(table, 2.0);
            let placed = layout.group_of.clone();
            layout.close_empty(table);
            assert_eq!(layout.micro_batches.len(), busy.max(1));
            assert_eq!(layout.group_of, placed);
            let mut nothing = Layout::empty(table, &[1.0, 2.0, 3.0]);
            nothing.close_empty(table);
            assert_eq!(nothing.micro_batches.len(), 1);
        });
        let rules = PlanRules {
            micro_batches_multiple_of: NonZero::new(2).unwrap(),
            ..PlanRules::default()
        };
        for case in sample(few_sequences(4..=10), 34, 20) {
            let case = Case { rules, ..case };
            let instance = Instance::new(case.problem()).unwrap();
            let table = Table::of(&instance).unwrap();
            let mut layout = Layout::empty(&table, &[1.0, 2.0, 3.0]);
            layout.close_empty(&table);
            assert_eq!(layout.micro_batches.len(), 3);
        }
    }

    #[test]
    fn a_layout_is_complete_once_all_sequences_are_in_groups_and_no_wanted_micro_batch_is_empty() {
        let rules = PlanRules {
            micro_batches_multiple_of: NonZero::new(2).unwrap(),
            ..PlanRules::default()
        };
        for case in sample(few_sequences(4..=10), 35, 40) {
            for rules in [PlanRules::default(), rules] {
                let case = Case {
                    rules,
                    ..case.clone()
                };
                let instance = Instance::new(case.problem()).unwrap();
                let table = Table::of(&instance).unwrap();
                let is_free = rules == PlanRules::default();
                let mut layout = Layout::empty(&table, &[]);
                let all: Vec<usize> = (0..table.sequences.len()).collect();
                layout.push_micro_batch(&table, 1e9, &[all[1..].to_vec()]);
                assert!(!layout.is_complete(&table));
                let alone = table.sequences[0].least_work;
                assert!((layout.missing_work(&table) - alone).abs() <= 1e-12 * alone);
                layout.push_micro_batch(&table, 1e9, &[all[..1].to_vec()]);
                assert!(layout.is_complete(&table));
                assert_eq!(layout.missing_work(&table), 0.0);
                layout.open(&table, 1.0);
                assert_eq!(layout.is_complete(&table), is_free);
            }
        }
    }

    #[test]
    fn the_step_takes_all_makespans_and_an_overhead_for_each() {
        each_table(36, 100, |table, _| {
            let layout = Layout::empty(table, &[0.25, 0.5, 2.0]);
            let expected = 2.75 + 3.0 * table.instance.overhead;
            assert!((layout.step_time(table) - expected).abs() < 1e-12);
            let mut layout = layout;
            layout.scale_targets(2.0);
            let expected = 5.5 + 3.0 * table.instance.overhead;
            assert!((layout.step_time(table) - expected).abs() < 1e-12);
        });
    }

    #[test]
    fn devices_are_enough_from_the_least_work_of_the_batch_on() {
        each_table(37, 200, |table, _| {
            let works = table.sequences.iter().map(|one| one.least_work);
            let needed = works.sum::<f64>() / f64::from(table.num_devices);
            if needed > 0.0 {
                for (part, is_enough) in [(1.0, true), (1.01, true), (0.99, false)] {
                    let halves = [0.5 * part * needed, 0.5 * part * needed];
                    let layout = Layout::empty(table, &halves);
                    assert_eq!(layout.has_devices_enough(table), is_enough);
                }
            }
        });
    }
}
