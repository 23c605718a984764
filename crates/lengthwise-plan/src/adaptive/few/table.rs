//! The costs of each sequence in each shape, sequence by sequence.

use lengthwise_cost::Span;

use super::layout::Layout;
use crate::instance::Instance;
use crate::load::Load;

/// Up to so many nodes, and so many devices on each, there are tables.
pub(super) const MAX_NODES: usize = 128;
pub(super) const MAX_NODE_SIZE: usize = 64;

/// The costs of an instance of equal devices, laid out for sums over the sequences of a group.
pub(super) struct Table<'a, 'p> {
    pub(super) instance: &'a Instance<'p>,
    /// The shapes worth a group, by increasing degree.
    pub(super) shapes: Vec<TableShape>,
    /// The sequences from the longest to the shortest.
    pub(super) sequences: Vec<Entry>,
    /// Seconds that a sequence of each class adds, at the speed of the devices: `[class][shape]`.
    times: Vec<f64>,
    /// Bytes that it adds on each device: `[class][shape]`.
    memories: Vec<u64>,
    /// The tokens of a sequence of each class.
    tokens: Vec<u64>,
    /// The most sequences of a group.
    most_sequences: u32,
    /// The devices of each node.
    pub(super) node_sizes: Vec<u32>,
    pub(super) num_devices: u32,
    /// The memory of each device for sequences.
    pub(super) budget: u64,
    /// The first shape with so many devices or more.
    pub(super) first_of_degree: Vec<usize>,
    /// No step takes less.
    least_step: f64,
    /// Of the devices.
    pub(super) speed: f64,
}

/// A shape that groups can have.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableShape {
    /// Its position in [`Instance::shapes`].
    pub(super) position: usize,
    pub(super) degree: u32,
    pub(super) span: Span,
    /// The most tokens that its sequences may have together.
    pub(super) most_tokens: u64,
}

impl TableShape {
    /// Whether its devices have to be of one node, and are more than one.
    pub(super) fn needs_node(&self) -> bool {
        self.span == Span::OneNode && self.degree > 1
    }
}

/// A sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) class: u32,
    /// Device-seconds in its cheapest shape.
    pub(super) least_work: f64,
}

impl<'a, 'p> Table<'a, 'p> {
    /// `None` where devices differ.
    pub(super) fn of(instance: &'a Instance<'p>) -> Option<Self> {
        if !instance.devices.are_equal() {
            return None;
        }
        let devices = instance.problem.cluster.devices();
        let speed = devices.first()?.speed().get();
        let shapes = useful_shapes(instance);
        let num_classes = instance.num_classes();
        let mut times = Vec::with_capacity(num_classes * shapes.len());
        let mut memories = Vec::with_capacity(num_classes * shapes.len());
        let mut sequences = Vec::with_capacity(instance.num_sequences());
        for class in 0..num_classes {
            let mut least_work = f64::INFINITY;
            for shape in &shapes {
                let time = instance.time(shape.position, class) / speed;
                times.push(time);
                memories.push(instance.memory(shape.position, class));
                if instance.fits(shape.position, class) {
                    least_work = least_work.min(f64::from(shape.degree) * time);
                }
            }
            let class = class as u32;
            let num = instance.members(class as usize).len();
            sequences.extend(std::iter::repeat_n(Entry { class, least_work }, num));
        }
        sequences.reverse();
        let nodes = 0..instance.devices.num_nodes();
        let mut node_sizes: Vec<u32> = nodes
            .map(|node| instance.devices.node_ranks(node).len() as u32)
            .collect();
        node_sizes.sort_unstable_by(|a, b| b.cmp(a));
        if node_sizes.len() > MAX_NODES || node_sizes[0] as usize > MAX_NODE_SIZE {
            return None;
        }
        let num_devices = instance.problem.cluster.num_devices();
        let first_of_degree = (0..=num_devices)
            .map(|degree| shapes.partition_point(|shape| shape.degree < degree))
            .collect();
        Some(Table {
            first_of_degree,
            instance,
            shapes,
            sequences,
            times,
            memories,
            tokens: instance.tokens().to_vec(),
            most_sequences: instance.problem.rules.most_sequences(),
            node_sizes,
            num_devices: instance.problem.cluster.num_devices(),
            budget: instance.smallest_budget(),
            speed,
            least_step: instance.overhead
                + instance
                    .least_makespan()
                    .max(instance.least_work() / instance.total_speed),
        })
    }

    /// Whether there may be any number of micro-batches.
    pub(super) fn num_is_free(&self) -> bool {
        let rules = &self.instance.problem.rules;
        rules.micro_batches_multiple_of.get() == 1
    }

    /// Whether no layout can be any shorter.
    pub(super) fn is_optimal(&self, layout: &Layout) -> bool {
        layout.step_time(self) <= self.least_step * (1.0 + 1e-9)
    }

    /// Seconds that a sequence adds to a group of each shape.
    pub(super) fn times(&self, sequence: usize) -> &[f64] {
        let num = self.shapes.len();
        &self.times[self.sequences[sequence].class as usize * num..][..num]
    }

    /// Its tokens.
    pub(super) fn tokens(&self, sequence: usize) -> u64 {
        self.tokens[self.sequences[sequence].class as usize]
    }

    /// Whether a group of a shape may hold so much.
    pub(super) fn has_room(&self, shape: usize, load: Load) -> bool {
        load.memory <= self.budget
            && load.tokens <= self.shapes[shape].most_tokens
            && load.sequences <= self.most_sequences
    }

    /// Bytes that it adds on each device.
    pub(super) fn memories(&self, sequence: usize) -> &[u64] {
        let num = self.shapes.len();
        &self.memories[self.sequences[sequence].class as usize * num..][..num]
    }
}

/// The shapes without those that another is never worse than, with no more devices and no wider a span.
fn useful_shapes(instance: &Instance<'_>) -> Vec<TableShape> {
    let mut useful: Vec<TableShape> = Vec::new();
    for (position, shape) in instance.shapes.iter().enumerate() {
        let is_needless = useful.iter().any(|other| {
            let times = instance.times(other.position).iter();
            let memories = instance.memories(other.position).iter();
            let is_no_wider = other.span == Span::ManyNodes || shape.span == Span::OneNode;
            (is_no_wider || other.degree == 1)
                && other.most_tokens >= shape.most_tokens
                && times
                    .zip(instance.times(position))
                    .all(|(other, time)| other <= time)
                && memories
                    .zip(instance.memories(position))
                    .all(|(other, memory)| other <= memory)
        });
        if !is_needless {
            useful.push(TableShape {
                position,
                degree: shape.degree,
                span: shape.span,
                most_tokens: shape.most_tokens,
            });
        }
    }
    useful
}
