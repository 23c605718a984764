//! A check that groups find the devices that their makespan asks for.

use lengthwise_cost::Span;

use super::layout::{Layout, LayoutMicroBatch};
use super::table::{MAX_NODE_SIZE, MAX_NODES, Table};
use crate::adaptive::random::Random;

impl Layout {
    fn allows(&self, table: &Table<'_, '_>, group: u32, shape: usize, target: f64) -> bool {
        self.times(table, group)[shape] <= target
            && table.has_room(shape, self.load(table, group, shape))
    }

    /// The smallest of the first so many shapes that a group may have.
    pub(super) fn smaller_shape(
        &self,
        table: &Table<'_, '_>,
        group: u32,
        num_shapes: usize,
    ) -> Option<usize> {
        let micro_batch = self.groups[group as usize].micro_batch;
        let target = self.micro_batches[micro_batch as usize].target;
        (0..num_shapes).find(|&shape| {
            self.allows(table, group, shape, target)
                && self.packs(table, micro_batch, Some(group), shape)
        })
    }

    /// Whether each group of a micro-batch that lies on one node finds one, with one group more or of another shape.
    pub(super) fn packs(
        &self,
        table: &Table<'_, '_>,
        micro_batch: u32,
        group: Option<u32>,
        shape: usize,
    ) -> bool {
        !table.shapes[shape].needs_node()
            || self.packs_without(table, micro_batch, group, Some(table.shapes[shape].degree))
    }

    /// Whether they do without one of them, and with devices of one node more.
    fn packs_without(
        &self,
        table: &Table<'_, '_>,
        micro_batch: u32,
        left_out: Option<u32>,
        added: Option<u32>,
    ) -> bool {
        let [largest, _, ..] = table.node_sizes[..] else {
            // A single node has room for what the number of devices allows.
            return true;
        };
        // How many groups have each degree.
        let mut counts = [0u32; MAX_NODE_SIZE + 1];
        for (index, group) in (0u32..).zip(&self.groups) {
            let shape = table.shapes[group.shape as usize];
            if group.micro_batch == micro_batch
                && group.num_sequences > 0
                && shape.needs_node()
                && left_out != Some(index)
            {
                counts[shape.degree as usize] += 1;
            }
        }
        if let Some(added) = added {
            counts[added as usize] += 1;
        }
        let mut left = [0u32; MAX_NODES];
        let left = &mut left[..table.node_sizes.len()];
        left.copy_from_slice(&table.node_sizes);
        for degree in (2..=largest).rev() {
            for _ in 0..counts[degree as usize] {
                let fitting = left.iter_mut().filter(|left| **left >= degree);
                let Some(tightest) = fitting.min() else {
                    return false;
                };
                *tightest -= degree;
            }
        }
        true
    }

    /// Gives the groups of a micro-batch the smallest shapes that keep its makespan; `false` where there are not devices
    /// enough.
    pub(super) fn reshape(&mut self, table: &Table<'_, '_>, micro_batch: u32) -> bool {
        let target = self.micro_batches[micro_batch as usize].target;
        let mut groups = self.groups_of(micro_batch);
        let mut needed = 0;
        for &group in &groups {
            let mut shapes = 0..table.shapes.len();
            let Some(smallest) = shapes.find(|&shape| self.allows(table, group, shape, target))
            else {
                return false;
            };
            self.groups[group as usize].shape = smallest as u32;
            needed += table.shapes[smallest].degree;
        }
        // Where nodes have no room for all, the smallest groups lie on several.
        groups.sort_by_key(|&group| self.groups[group as usize].shape);
        for group in groups {
            if needed > table.num_devices || self.packs_without(table, micro_batch, None, None) {
                break;
            }
            let shape = self.groups[group as usize].shape as usize;
            let wider = (shape + 1..table.shapes.len()).find(|&wider| {
                table.shapes[wider].span == Span::ManyNodes
                    && self.allows(table, group, wider, target)
            });
            if let Some(wider) = wider.filter(|_| table.shapes[shape].needs_node()) {
                self.groups[group as usize].shape = wider as u32;
                needed += table.shapes[wider].degree - table.shapes[shape].degree;
            }
        }
        if needed > table.num_devices || !self.packs_without(table, micro_batch, None, None) {
            return false;
        }
        self.micro_batches[micro_batch as usize].free = table.num_devices - needed;
        true
    }

    /// Shortens all makespans as far as the partition allows, and closes micro-batches that hold nothing.
    pub(super) fn tighten(&mut self, table: &Table<'_, '_>) {
        self.close_empty(table);
        for micro_batch in 0..self.micro_batches.len() {
            let groups = self.groups_of(micro_batch as u32);
            loop {
                let free = self.micro_batches[micro_batch].free;
                let shapes: Vec<u32> = groups
                    .iter()
                    .map(|&group| self.groups[group as usize].shape)
                    .collect();
                let times = groups.iter().zip(&shapes);
                let times = times.map(|(&group, &shape)| self.times(table, group)[shape as usize]);
                let makespan = times.fold(0.0, f64::max);
                self.micro_batches[micro_batch].target = makespan * (1.0 - 1e-9);
                if makespan == 0.0 || !self.reshape(table, micro_batch as u32) {
                    for (&group, shape) in groups.iter().zip(shapes) {
                        self.groups[group as usize].shape = shape;
                    }
                    let target = makespan;
                    self.micro_batches[micro_batch] = LayoutMicroBatch { target, free };
                    break;
                }
            }
        }
    }

    /// Takes out of a micro-batch what keeps its makespan no longer.
    pub(super) fn evict(&mut self, table: &Table<'_, '_>, micro_batch: u32, random: &mut Random) {
        let target = self.micro_batches[micro_batch as usize].target;
        for group in self.groups_of(micro_batch) {
            let mut members = self.members(group);
            while !members.is_empty()
                && !(0..table.shapes.len()).any(|shape| self.allows(table, group, shape, target))
            {
                let out = members.swap_remove(random.below(members.len()));
                self.group_of[out] = None;
                self.sum_up(table, group);
            }
        }
        while !self.reshape(table, micro_batch) {
            let groups = self.groups_of(micro_batch);
            self.empty_group(table, groups[random.below(groups.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_adds_up, assert_keeps_makespans, each_table, random_layout};
    use super::*;

    impl Layout {
        /// Whether all groups of a micro-batch find nodes.
        pub(in super::super) fn packs_all(&self, table: &Table<'_, '_>, micro_batch: u32) -> bool {
            self.packs_without(table, micro_batch, None, None)
        }
    }

    /// Whether parts fit bins in some way, by trying all.
    fn fit_somehow(parts: &[u32], bins: &mut [u32]) -> bool {
        let Some((&part, rest)) = parts.split_first() else {
            return true;
        };
        (0..bins.len()).any(|bin| {
            if bins[bin] < part {
                return false;
            }
            bins[bin] -= part;
            let fits = fit_somehow(rest, bins);
            bins[bin] += part;
            fits
        })
    }

    /// The degrees of the groups of a micro-batch that need a node, but for one of them.
    fn on_nodes(
        layout: &Layout,
        table: &Table<'_, '_>,
        micro_batch: u32,
        but: Option<u32>,
    ) -> Vec<u32> {
        let groups = layout.groups_of(micro_batch).into_iter();
        let shapes = groups
            .filter(|&group| Some(group) != but)
            .map(|group| table.shapes[layout.groups[group as usize].shape as usize]);
        let mut degrees: Vec<u32> = shapes
            .filter(|shape| shape.needs_node())
            .map(|shape| shape.degree)
            .collect();
        degrees.sort_by(|a, b| b.cmp(a));
        degrees
    }

    /// The smallest shape in which a group keeps a makespan.
    fn smallest(layout: &Layout, table: &Table<'_, '_>, group: u32, target: f64) -> Option<usize> {
        (0..table.shapes.len()).find(|&shape| {
            let load = layout.load(table, group, shape);
            layout.times(table, group)[shape] <= target && table.has_room(shape, load)
        })
    }

    #[test]
    fn groups_pack_only_where_some_way_to_lay_them_on_nodes_does() {
        let (mut num_packed, mut num_not) = (0, 0);
        each_table(20, 400, |table, random| {
            // Without the check that is tested here.
            let mut layout = Layout::empty(table, &[f64::MAX]);
            for sequence in 0..table.sequences.len().min(7) {
                let shape = random.below(table.shapes.len()) as u32;
                if layout.micro_batches[0].free >= table.shapes[shape as usize].degree {
                    let choice = super::super::layout::Choice {
                        micro_batch: 0,
                        group: None,
                        shape,
                    };
                    layout.place(table, sequence, choice);
                }
            }
            let are_powers = |sizes: &[u32]| sizes.iter().all(|size| size.is_power_of_two());
            let mut nodes = table.node_sizes.clone();
            let groups = layout.groups_of(0).into_iter().map(Some).chain([None]);
            for left_out in groups {
                for (shape, figures) in table.shapes.iter().enumerate() {
                    let mut degrees = on_nodes(&layout, table, 0, left_out);
                    if figures.needs_node() {
                        degrees.push(figures.degree);
                    } else {
                        assert!(layout.packs(table, 0, left_out, shape));
                        continue;
                    }
                    if nodes.len() == 1 {
                        // That they are no more devices than there are is looked at elsewhere.
                        assert!(layout.packs(table, 0, left_out, shape));
                        continue;
                    }
                    degrees.sort_by(|a, b| b.cmp(a));
                    let fit = fit_somehow(&degrees, &mut nodes);
                    let packs = layout.packs(table, 0, left_out, shape);
                    assert!(fit || !packs, "{degrees:?} into {nodes:?}");
                    if are_powers(&degrees) && are_powers(&nodes) {
                        assert_eq!(packs, fit, "{degrees:?} into {nodes:?}");
                    }
                    num_packed += usize::from(packs);
                    num_not += usize::from(!packs);
                }
            }
        });
        assert!(num_packed > 1000 && num_not > 20, "{num_packed}, {num_not}");
    }

    #[test]
    fn groups_get_the_smallest_shapes_that_keep_the_makespan_if_these_find_devices() {
        let (mut num_reshaped, mut num_not) = (0, 0);
        each_table(21, 400, |table, random| {
            let mut layout = random_layout(table, random);
            for micro_batch in 0..layout.micro_batches.len() as u32 {
                let longer = 0.5 + random.next();
                layout.micro_batches[micro_batch as usize].target *= longer;
                let target = layout.micro_batches[micro_batch as usize].target;
                let groups = layout.groups_of(micro_batch);
                let shapes: Option<Vec<usize>> = groups
                    .iter()
                    .map(|&group| smallest(&layout, table, group, target))
                    .collect();
                let needed = shapes.as_ref().map(|shapes| {
                    let degrees = shapes.iter().map(|&shape| table.shapes[shape].degree);
                    degrees.sum::<u32>()
                });
                let before = layout.clone();
                if layout.reshape(table, micro_batch) {
                    num_reshaped += 1;
                    assert_keeps_makespans_of(&layout, table, micro_batch);
                    let shapes = shapes.expect("each has a shape");
                    let mut smallest = before.clone();
                    for (&group, shape) in groups.iter().zip(shapes) {
                        smallest.groups[group as usize].shape = shape as u32;
                    }
                    if smallest.packs_all(table, micro_batch) {
                        for &group in &groups {
                            let [got, least] = [&layout, &smallest]
                                .map(|layout| layout.groups[group as usize].shape);
                            assert_eq!(got, least);
                        }
                    }
                } else {
                    num_not += 1;
                    let lacks_devices = needed.is_none_or(|needed| needed > table.num_devices);
                    assert!(lacks_devices || table.node_sizes.len() > 1);
                    layout = before;
                    layout.micro_batches[micro_batch as usize].target /= longer;
                }
            }
        });
        assert!(
            num_reshaped > 200 && num_not > 50,
            "{num_reshaped}, {num_not}"
        );
    }

    fn assert_keeps_makespans_of(layout: &Layout, table: &Table<'_, '_>, micro_batch: u32) {
        let mut degrees = 0;
        let figures = layout.micro_batches[micro_batch as usize];
        for group in layout.groups_of(micro_batch) {
            let shape = layout.groups[group as usize].shape as usize;
            assert!(layout.times(table, group)[shape] <= figures.target);
            assert!(table.has_room(shape, layout.load(table, group, shape)));
            degrees += table.shapes[shape].degree;
        }
        assert_eq!(figures.free + degrees, table.num_devices);
        assert!(layout.packs_all(table, micro_batch));
    }

    #[test]
    fn tightened_makespans_are_those_of_the_slowest_groups_and_none_could_be_shorter() {
        each_table(22, 400, |table, random| {
            let mut layout = random_layout(table, random);
            let before = layout.clone();
            layout.tighten(table);
            assert_keeps_makespans(&layout, table);
            assert_eq!(layout.group_of.len(), before.group_of.len());
            assert!(layout.step_time(table) <= before.step_time(table));
            for (index, micro_batch) in (0u32..).zip(&layout.micro_batches) {
                let groups = layout.groups_of(index);
                let times = groups.iter().map(|&group| {
                    let shape = layout.groups[group as usize].shape as usize;
                    layout.times(table, group)[shape]
                });
                let makespan = times.fold(0.0, f64::max);
                assert_eq!(micro_batch.target, makespan);
                if table.node_sizes.len() == 1 && makespan > 0.0 {
                    let shorter = makespan * (1.0 - 1e-6);
                    let degrees = groups.iter().map(|&group| {
                        let shape = smallest(&layout, table, group, shorter);
                        shape.map(|shape| table.shapes[shape].degree)
                    });
                    let needed: Option<u32> = degrees.sum();
                    assert!(needed.is_none_or(|needed| needed > table.num_devices));
                }
            }
        });
    }

    #[test]
    fn only_what_no_longer_keeps_a_makespan_is_evicted() {
        let (mut num_evicted, mut num_kept) = (0, 0);
        each_table(23, 400, |table, random| {
            let mut layout = random_layout(table, random);
            if !(0..layout.micro_batches.len() as u32).all(|one| layout.reshape(table, one)) {
                return;
            }
            let before = layout.clone();
            for micro_batch in 0..layout.micro_batches.len() as u32 {
                layout.evict(table, micro_batch, random);
            }
            assert_eq!(layout.group_of, before.group_of, "all kept their makespans");
            layout.scale_targets(0.5 + 0.5 * random.next());
            for micro_batch in 0..layout.micro_batches.len() as u32 {
                let target = layout.micro_batches[micro_batch as usize].target;
                let groups = layout.groups_of(micro_batch);
                let keep = groups
                    .iter()
                    .filter(|&&group| smallest(&layout, table, group, target).is_some());
                let keep: Vec<(u32, Vec<usize>)> =
                    keep.map(|&group| (group, layout.members(group))).collect();
                layout.evict(table, micro_batch, random);
                for (group, members) in keep {
                    // Those that keep it stay whole, or leave as a whole where devices are too few.
                    let now = layout.members(group);
                    assert!(now == members || now.is_empty());
                }
            }
            assert_keeps_makespans(&layout, table);
            assert_adds_up(&layout, table);
            let num = |layout: &Layout| layout.group_of.iter().flatten().count();
            num_evicted += num(&before) - num(&layout);
            num_kept += num(&layout);
            for (now, before) in layout.group_of.iter().zip(&before.group_of) {
                assert!(now.is_none() || now == before);
            }
        });
        assert!(
            num_evicted > 500 && num_kept > 500,
            "{num_evicted}, {num_kept}"
        );
    }

    #[test]
    fn a_smaller_shape_is_the_first_that_keeps_makespan_memory_and_nodes() {
        each_table(24, 200, |table, random| {
            let layout = random_layout(table, random);
            for (index, micro_batch) in (0u32..).zip(&layout.micro_batches) {
                for group in layout.groups_of(index) {
                    let num = random.below(table.shapes.len() + 1);
                    let first = (0..num).find(|&shape| {
                        let load = layout.load(table, group, shape);
                        layout.times(table, group)[shape] <= micro_batch.target
                            && table.has_room(shape, load)
                            && layout.packs(table, index, Some(group), shape)
                    });
                    assert_eq!(layout.smaller_shape(table, group, num), first);
                }
            }
        });
    }
}
