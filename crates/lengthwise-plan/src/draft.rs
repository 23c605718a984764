//! A plan in the making: groups with their devices and the lengths they hold, sums kept up to date.

use lengthwise_core::{Group, MicroBatch, Plan, SequenceIndex};

use crate::instance::Instance;
use crate::placement::{FreeDevices, Seat};

/// Micro-batches in the making.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    pub(crate) micro_batches: Vec<DraftMicroBatch>,
}

/// One of them, with the devices that are in no group yet.
#[derive(Clone)]
pub(crate) struct DraftMicroBatch {
    pub(crate) groups: Vec<DraftGroup>,
    pub(crate) free: FreeDevices,
}

/// A group in the making.
#[derive(Clone)]
pub(crate) struct DraftGroup {
    /// Its position in [`Instance::shapes`].
    pub(crate) shape: usize,
    pub(crate) seat: Seat,
    /// The class of every sequence it holds.
    pub(crate) classes: Vec<u32>,
    /// Seconds, at the pace of its slowest device.
    pub(crate) time: f64,
    /// Bytes on each device.
    pub(crate) memory: u64,
}

impl DraftGroup {
    /// Its time with one more sequence of `class`; `None` where memory does not suffice.
    pub(crate) fn time_with(&self, instance: &Instance<'_>, class: usize) -> Option<f64> {
        let memory = self
            .memory
            .saturating_add(instance.memory(self.shape, class));
        let added = instance.time(self.shape, class) / self.seat.speed;
        (memory <= self.seat.budget).then_some(self.time + added)
    }

    pub(crate) fn push(&mut self, instance: &Instance<'_>, class: usize) {
        self.time += instance.time(self.shape, class) / self.seat.speed;
        self.memory += instance.memory(self.shape, class);
        self.classes.push(class as u32);
    }
}

impl DraftMicroBatch {
    pub(crate) fn new(free: FreeDevices) -> Self {
        DraftMicroBatch {
            groups: Vec::new(),
            free,
        }
    }

    /// Opens an empty group of `strategy` whose devices all have `budget`, where there is room for it.
    pub(crate) fn open(
        &mut self,
        instance: &Instance<'_>,
        strategy: lengthwise_core::Strategy,
        budget: u64,
    ) -> Option<&mut DraftGroup> {
        let seat = self.free.take(strategy.degree().get(), budget)?;
        let shape = instance.shape_of(strategy, seat.span)?;
        self.groups.push(DraftGroup {
            shape,
            seat,
            classes: Vec::new(),
            time: 0.0,
            memory: 0,
        });
        self.groups.last_mut()
    }

    /// The time of its slowest group.
    pub(crate) fn makespan(&self) -> f64 {
        self.groups
            .iter()
            .map(|group| group.time)
            .fold(0.0, f64::max)
    }
}

impl Draft {
    /// The predicted step time up to rounding; the plan's own figure is that of `predict_step`.
    pub(crate) fn step_time(&self, instance: &Instance<'_>) -> f64 {
        let overhead = instance.problem.cost.micro_batch_overhead().get();
        self.micro_batches
            .iter()
            .map(|micro_batch| overhead + micro_batch.makespan())
            .sum()
    }

    /// The plan: within each class, sequences are handed out in the order of the batch.
    pub(crate) fn into_plan(self, instance: &Instance<'_>) -> Plan {
        let mut handed_out = vec![0; instance.num_classes()];
        let mut hand_out = |class: u32| -> SequenceIndex {
            let class = class as usize;
            handed_out[class] += 1;
            instance.members(class)[handed_out[class] - 1]
        };
        let micro_batches = self.micro_batches.into_iter().map(|micro_batch| {
            let occupied = micro_batch
                .groups
                .into_iter()
                .filter(|group| !group.classes.is_empty());
            let groups = occupied.map(|mut group| {
                group.classes.sort_unstable_by(|a, b| b.cmp(a));
                Group {
                    strategy: instance.shapes[group.shape].strategy,
                    ranks: group.seat.ranks,
                    sequences: group.classes.into_iter().map(&mut hand_out).collect(),
                }
            });
            MicroBatch {
                groups: groups.collect(),
            }
        });
        let occupied = micro_batches.filter(|micro_batch| !micro_batch.groups.is_empty());
        Plan::new(occupied.collect())
    }
}
