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
    /// The memory of each device for sequences; of equal ones it says all.
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
            budget: instance.weakest().memory,
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

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use lengthwise_core::{
        Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
        StrategySpace, Tokens,
    };
    use lengthwise_cost::{FittedCosts, FittedModel, GroupShape, KindCosts};

    use super::super::tests::each_table;
    use super::*;
    use crate::common::few::few_sequences;
    use crate::common::{Case, sample};

    #[test]
    fn figures_are_those_of_the_cost_model_for_the_sequences_from_the_longest_on() {
        each_table(10, 200, |table, _| {
            let problem = table.instance.problem;
            let mut lens: Vec<Tokens> = problem.batch.seq_lens().to_vec();
            lens.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(table.sequences.len(), lens.len());
            for (sequence, &seq_len) in lens.iter().enumerate() {
                assert_eq!(table.tokens(sequence), seq_len.0);
                let mut least_work = f64::INFINITY;
                for (shape, figures) in table.shapes.iter().enumerate() {
                    let strategy = table.instance.shapes[figures.position].strategy;
                    let span = figures.span;
                    let time = problem
                        .cost
                        .sequence_time(GroupShape { strategy, span }, seq_len);
                    let time = time.get() / problem.cluster.devices()[0].speed().get();
                    let memory = problem.cost.sequence_memory(strategy, seq_len).0;
                    assert_eq!(table.times(sequence)[shape], time);
                    assert_eq!(table.memories(sequence)[shape], memory);
                    assert_eq!(figures.degree, strategy.degree().get());
                    if memory <= table.budget {
                        least_work = least_work.min(f64::from(figures.degree) * time);
                    }
                }
                assert_eq!(table.sequences[sequence].least_work, least_work);
            }
            let sizes: Vec<u32> = (0..problem.cluster.num_nodes())
                .map(|node| problem.cluster.node_ranks(node).unwrap().len() as u32)
                .collect();
            assert_eq!(
                table.node_sizes.iter().sum::<u32>(),
                sizes.iter().sum::<u32>()
            );
            assert!(table.node_sizes.is_sorted_by(|a, b| a >= b));
            for (degree, &first) in table.first_of_degree.iter().enumerate() {
                let has = |shape: &TableShape| shape.degree as usize >= degree;
                let expected = table.shapes.iter().position(has);
                assert_eq!(first, expected.unwrap_or(table.shapes.len()));
            }
        });
    }

    #[test]
    fn no_step_is_below_the_longest_sequence_or_the_work_of_all() {
        let (mut num_by_time, mut num_by_work) = (0, 0);
        each_table(11, 200, |table, _| {
            let all = 0..table.sequences.len();
            let fastest = |sequence: usize| {
                let fitting = (0..table.shapes.len())
                    .filter(|&shape| table.memories(sequence)[shape] <= table.budget);
                fitting
                    .map(|shape| table.times(sequence)[shape])
                    .fold(f64::INFINITY, f64::min)
            };
            let by_time = all.map(fastest).fold(0.0, f64::max);
            let works = table.sequences.iter().map(|one| one.least_work);
            let by_work = works.sum::<f64>() / f64::from(table.num_devices);
            num_by_time += usize::from(by_time > by_work);
            num_by_work += usize::from(by_time < by_work);
            let least = by_time.max(by_work);
            let with_target = |target: f64| Layout::empty(table, &[target]);
            assert!(table.is_optimal(&with_target(least)));
            assert!(table.is_optimal(&with_target(0.5 * least)));
            let overhead = table.instance.overhead;
            let longer = least + 1e-6 * (least + overhead);
            assert!(least == 0.0 || !table.is_optimal(&with_target(longer)));
            if overhead > 0.0 {
                assert!(!table.is_optimal(&Layout::empty(table, &[0.5 * least, 0.5 * least])));
            }
        });
        assert!(
            num_by_time > 10 && num_by_work > 10,
            "{num_by_time}, {num_by_work}"
        );
    }

    #[test]
    fn only_shapes_are_left_out_that_another_is_never_worse_than() {
        each_table(12, 300, |table, _| {
            let instance = table.instance;
            let outdoes = |one: usize, other: usize| {
                let (figures, others) = (&instance.shapes[one], &instance.shapes[other]);
                let near = figures.span == Span::ManyNodes
                    || others.span == Span::OneNode
                    || figures.degree == 1;
                near && figures.degree <= others.degree
                    && figures.most_tokens >= others.most_tokens
                    && (0..instance.num_classes()).all(|class| {
                        instance.time(one, class) <= instance.time(other, class)
                            && instance.memory(one, class) <= instance.memory(other, class)
                    })
            };
            let kept: Vec<usize> = table.shapes.iter().map(|shape| shape.position).collect();
            assert!(kept.is_sorted());
            for position in 0..instance.shapes.len() {
                let is_outdone = kept
                    .iter()
                    .any(|&other| other < position && outdoes(other, position));
                assert_eq!(kept.contains(&position), !is_outdone);
            }
        });
    }

    #[test]
    fn any_number_of_micro_batches_will_do_unless_a_multiple_is_asked_for() {
        for case in sample(few_sequences(3..=6), 13, 5) {
            for (multiple, is_free) in [(1, true), (2, false), (3, false)] {
                let rules = PlanRules {
                    micro_batches_multiple_of: NonZero::new(multiple).unwrap(),
                    ..PlanRules::default()
                };
                let case = Case {
                    rules,
                    ..case.clone()
                };
                let instance = Instance::new(case.problem()).unwrap();
                assert_eq!(Table::of(&instance).unwrap().num_is_free(), is_free);
            }
        }
    }

    /// One short sequence on such nodes.
    fn on_nodes(nodes: Vec<Vec<Device>>) -> Case {
        let costs = KindCosts {
            linear_s_per_token: 1e-6,
            memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
            ..KindCosts::default()
        };
        let kind = StrategyKind::ulysses(Activations::Recompute);
        Case {
            batch: GlobalBatch::from_lens([10]).unwrap(),
            cluster: Cluster::from_nodes(nodes).unwrap(),
            cost: FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap(),
            space: StrategySpace::ulysses_up_to(4, Activations::Recompute).unwrap(),
            rules: PlanRules::default(),
        }
    }

    #[test]
    fn clusters_have_tables_up_to_a_size_and_only_of_equal_devices() {
        let has_table = |nodes: Vec<Vec<Device>>| {
            let case = on_nodes(nodes);
            let instance = Instance::new(case.problem()).unwrap();
            Table::of(&instance).is_some()
        };
        let device = Device::new(Bytes::from_mib(1), Speed::NOMINAL);
        let larger = Device::new(Bytes::from_mib(2), Speed::NOMINAL);
        assert!(has_table(vec![vec![device]; MAX_NODES]));
        assert!(!has_table(vec![vec![device]; MAX_NODES + 1]));
        assert!(has_table(vec![vec![device; MAX_NODE_SIZE]; 2]));
        assert!(!has_table(vec![
            vec![device],
            vec![device; MAX_NODE_SIZE + 1]
        ]));
        assert!(!has_table(vec![vec![device, larger]]));
    }

    #[test]
    fn a_group_has_room_up_to_each_of_its_limits() {
        each_table(14, 20, |table, _| {
            for shape in 0..table.shapes.len() {
                let full = Load {
                    memory: table.budget,
                    host: 0,
                    tokens: table.shapes[shape].most_tokens,
                    sequences: table.most_sequences,
                };
                assert!(table.has_room(shape, full));
                let one = Load {
                    memory: 1,
                    ..Load::default()
                };
                assert!(!table.has_room(shape, full + one));
            }
        });
        for case in sample(few_sequences(3..=6), 15, 5) {
            let rules = PlanRules {
                max_sequences_per_group: NonZero::new(3),
                token_cap: Some(lengthwise_core::TokenCap {
                    tokens_per_rank: Tokens(1 << 30),
                    replaces_memory: false,
                }),
                ..PlanRules::default()
            };
            let case = Case { rules, ..case };
            let instance = Instance::new(case.problem()).unwrap();
            let table = Table::of(&instance).unwrap();
            for (shape, figures) in table.shapes.iter().enumerate() {
                assert_eq!(figures.most_tokens, u64::from(figures.degree) << 30);
                let tokens = |tokens| Load {
                    tokens,
                    ..Load::default()
                };
                assert!(table.has_room(shape, tokens(figures.most_tokens)));
                assert!(!table.has_room(shape, tokens(figures.most_tokens + 1)));
                let sequences = |sequences| Load {
                    sequences,
                    ..Load::default()
                };
                assert!(
                    table.has_room(shape, sequences(3)) && !table.has_room(shape, sequences(4))
                );
            }
        }
    }
}
