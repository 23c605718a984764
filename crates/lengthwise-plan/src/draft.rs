//! A plan in the making: groups with their devices, their sums, and who is in which.

use std::cmp::Reverse;
use std::ops::Add;

use lengthwise_core::{Group, MicroBatch, Plan, SequenceIndex, Strategy};

use crate::arrangement::arrange;
use crate::instance::Instance;
use crate::load::Load;
use crate::placement::{Allocation, FreeDevices};

/// Micro-batches and groups in the making.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    /// The devices of each micro-batch that are in no group yet.
    pub(crate) free: Vec<FreeDevices>,
    pub(crate) groups: Vec<DraftGroup>,
    /// Where the sequences placed so far are.
    pub(crate) placed: Vec<Placed>,
}

/// Some sequences of one class that are in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) class: u32,
    pub(crate) group: u32,
    pub(crate) count: u32,
}

/// A group in the making.
#[derive(Clone)]
pub(crate) struct DraftGroup {
    pub(crate) micro_batch: u32,
    /// Its position in [`Instance::shapes`].
    pub(crate) shape: u32,
    pub(crate) allocation: Allocation,
    /// Seconds, at the pace of its slowest device.
    pub(crate) time: f64,
    /// The load of its sequences.
    pub(crate) load: Load,
}

impl DraftGroup {
    /// Seconds that a sequence of `class` adds.
    pub(crate) fn added_time(&self, instance: &Instance<'_>, class: usize) -> f64 {
        instance.time(self.shape as usize, class) * self.allocation.slowness
    }

    /// The load that it has room for.
    pub(crate) fn room(&self, instance: &Instance<'_>) -> Load {
        instance.capacity(self.shape as usize, self.allocation.budget) - self.load
    }

    /// Whether it may hold a sequence of `class` more.
    pub(crate) fn has_room(&self, instance: &Instance<'_>, class: usize) -> bool {
        let added = instance.load(self.shape as usize, class);
        added.fits(self.room(instance))
    }
}

impl Draft {
    /// A plan as a draft; `None` where its groups don't find devices like their own.
    pub(crate) fn of_plan(instance: &Instance<'_>, plan: &Plan) -> Option<Self> {
        let batch = instance.problem.batch;
        let mut draft = Draft::default();
        for micro_batch in plan.micro_batches() {
            let opened = draft.open_micro_batch(instance);
            let mut groups: Vec<&Group> = micro_batch.groups.iter().collect();
            groups.sort_by_key(|group| Reverse(group.degree()));
            for group in groups {
                let mut shapes = instance.shapes.iter();
                // What it holds does not ask where it is.
                let shape = shapes.position(|shape| shape.strategy == group.strategy)?;
                let class = |&sequence| {
                    let seq_len = batch.seq_len(sequence)?;
                    instance.class_lens.binary_search(&seq_len).ok()
                };
                let classes: Option<Vec<usize>> = group.sequences.iter().map(class).collect();
                let classes = classes?;
                let loads = classes.iter().map(|&class| instance.load(shape, class));
                let load = loads.fold(Load::default(), Load::add);
                let to = draft.open_group(instance, opened, group.strategy, load)?;
                for class in classes {
                    draft.place(instance, class, to);
                }
            }
        }
        Some(draft)
    }

    /// A draft of some shapes of an instance as one of all, given their positions there.
    pub(crate) fn with_all_shapes(mut self, positions: &[usize]) -> Self {
        for group in &mut self.groups {
            group.shape = positions[group.shape as usize] as u32;
        }
        self
    }

    /// Adds a micro-batch; returns its position.
    pub(crate) fn open_micro_batch(&mut self, instance: &Instance<'_>) -> u32 {
        self.free.push(instance.devices.all_free());
        self.free.len() as u32 - 1
    }

    /// Opens an empty group of `strategy` whose devices can hold `load`, where there is room; returns its position.
    pub(crate) fn open_group(
        &mut self,
        instance: &Instance<'_>,
        micro_batch: u32,
        strategy: Strategy,
        load: Load,
    ) -> Option<u32> {
        let free = &self.free[micro_batch as usize];
        let allocation = free.find(&instance.devices, strategy.degree().get(), load)?;
        let shape = instance.shape_of(strategy, allocation.span)?;
        Some(self.add_group(instance, micro_batch, shape as u32, allocation))
    }

    /// Adds an empty group of `shape` on devices that were found for it; returns its position.
    pub(crate) fn add_group(
        &mut self,
        instance: &Instance<'_>,
        micro_batch: u32,
        shape: u32,
        allocation: Allocation,
    ) -> u32 {
        self.free[micro_batch as usize].take(&instance.devices, &allocation);
        self.groups.push(DraftGroup {
            micro_batch,
            shape,
            allocation,
            time: 0.0,
            load: Load::default(),
        });
        self.groups.len() as u32 - 1
    }

    /// Adds a sequence of `class` to a group.
    pub(crate) fn place(&mut self, instance: &Instance<'_>, class: usize, group: u32) {
        let to = &mut self.groups[group as usize];
        to.time += to.added_time(instance, class);
        to.load = to.load + instance.load(to.shape as usize, class);
        self.placed.push(Placed {
            class: class as u32,
            group,
            count: 1,
        });
    }

    /// The time of the slowest group of every micro-batch.
    pub(crate) fn makespans(&self) -> Vec<f64> {
        let mut makespans = vec![0.0f64; self.free.len()];
        for group in &self.groups {
            let makespan = &mut makespans[group.micro_batch as usize];
            *makespan = makespan.max(group.time);
        }
        makespans
    }

    /// The predicted step time up to rounding; the plan's own figure is that of `predict_step`.
    pub(crate) fn step_time(&self, instance: &Instance<'_>) -> f64 {
        let makespans = self.makespans();
        let busy = makespans.iter().filter(|&&makespan| makespan > 0.0).count();
        makespans.iter().sum::<f64>() + instance.overhead * busy.max(1) as f64
    }

    /// The plan: within each class, sequences are handed out in the order of the batch.
    pub(crate) fn into_plan(self, instance: &Instance<'_>) -> Plan {
        let mut sequences: Vec<Vec<SequenceIndex>> = vec![Vec::new(); self.groups.len()];
        let mut handed_out = vec![0usize; instance.num_classes()];
        let mut placed = self.placed;
        placed.sort_unstable_by(|a, b| b.cmp(a));
        for placed in placed {
            let class = placed.class as usize;
            let from = handed_out[class];
            handed_out[class] += placed.count as usize;
            let handed_out = &instance.members(class)[from..handed_out[class]];
            sequences[placed.group as usize].extend_from_slice(handed_out);
        }
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.free.len()];
        for (index, group) in self.groups.iter().enumerate() {
            if !sequences[index].is_empty() {
                members[group.micro_batch as usize].push(index);
            }
        }
        members.retain(|members| !members.is_empty());
        let micro_batches = members.into_iter().map(|members| {
            let allocations = members.iter().map(|&index| &self.groups[index].allocation);
            let ranks = arrange(&instance.devices, &allocations.collect::<Vec<_>>());
            let groups = members.into_iter().zip(ranks).map(|(index, ranks)| Group {
                strategy: instance.shapes[self.groups[index].shape as usize].strategy,
                ranks,
                sequences: std::mem::take(&mut sequences[index]),
            });
            MicroBatch {
                groups: groups.collect(),
            }
        });
        Plan::new(micro_batches.collect())
    }
}
