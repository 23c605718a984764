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
