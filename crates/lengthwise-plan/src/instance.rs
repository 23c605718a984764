//! A planning problem as tables: what each distinct length costs in each shape a group can have.

use std::ops::Range;

use lengthwise_core::{
    Bytes, Degree, JointMemory, Seconds, Sequence, SequenceIndex, Strategy, Tokens,
};
use lengthwise_cost::{GroupShape, Span};

use crate::budget::{Budget, budgets_by_node};
use crate::explain::Setting;
use crate::group_budgets::GroupBudgets;
use crate::load::Load;
use crate::outdone::outdone;
use crate::placement::{Devices, needs_runs};
use crate::rules::{check_degrees, check_rules, tightest_limit, too_many_tokens};
use crate::shortlist::{Shortlist, shortlists};
use crate::{MemoryLimit, PlanError, Problem};

/// No sequence may take longer: some thirty thousand million years.
const MAX_SECONDS: f64 = 1e18;

/// The tables of one problem. Sequences of equal length form a *class*; classes are ordered by length.
pub(crate) struct Instance<'a> {
    pub(crate) problem: Problem<'a>,
    /// The length of each class, increasing.
    pub(crate) class_lens: Vec<Tokens>,
    /// Sequences by increasing length, then index: those of a class are contiguous.
    sorted: Vec<SequenceIndex>,
    /// First position in `sorted` of every class, then the number of sequences.
    class_starts: Vec<u32>,
    /// The shapes that a group can have, by increasing degree, one node before many.
    pub(crate) shapes: Vec<Shape>,
    /// The shapes that are worth a search, for each of some prices of memory; none where all are.
    pub(crate) shortlists: Vec<Shortlist>,
    /// Device-seconds that a search counts for a whole device's memory, beside those that its group is busy.
    memory_price: f64,
    /// Seconds at nominal speed: `[shape][class]`.
    time: Vec<f64>,
    /// Bytes on each device, of the host counted as such ([`JointMemory`]): `[shape][class]`; 0 where the rules don't limit
    /// memory.
    memory: Vec<u64>,
    /// Bytes of each device's host: `[shape][class]`; empty where the others say all.
    host: Vec<u64>,
    /// Of each shape, where no single one covers the others, the budgets that all devices of such a group can have.
    alternatives: Vec<Vec<Budget>>,
    /// Shapes of strategies that others outdo, with their rows of both tables; only certificates tell of them.
    pub(crate) outdone: Vec<OutdoneShape>,
    /// Tokens of a sequence of each class.
    tokens: Vec<u64>,
    /// Every device's memory for sequences, largest first.
    budgets: Vec<u64>,
    /// What every device has at least.
    weakest: Budget,
    /// Where groups can go.
    pub(crate) devices: Devices,
    /// Seconds that every micro-batch takes on top.
    pub(crate) overhead: f64,
    /// The limit that room is measured by.
    pub(crate) limit: Limit,
    /// The speeds of all devices together.
    pub(crate) total_speed: f64,
    least_work: f64,
    least_makespan: f64,
}

/// A shape that groups of this cluster can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) strategy: Strategy,
    pub(crate) span: Span,
    pub(crate) degree: u32,
    /// The most that all devices of such a group can have, of memory and of hosts.
    pub(crate) best_budget: Budget,
    /// The most tokens that its sequences may have together.
    pub(crate) most_tokens: u64,
}

/// A shape of a strategy that another one outdoes.
#[derive(Clone, Debug)]
pub(crate) struct OutdoneShape {
    pub(crate) shape: Shape,
    pub(crate) time: Vec<f64>,
    pub(crate) memory: Vec<u64>,
}

/// The limit that room in groups is measured by: the one that asks for the most micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Memory,
    Tokens,
    Sequences,
}

impl<'a> Instance<'a> {
    /// Tabulates `problem`.
    ///
    /// # Errors
    ///
    /// Some sequence fits no group of the cluster, or a strategy has no costs.
    pub(crate) fn new(problem: Problem<'a>) -> Result<Self, PlanError> {
        let mut strategies = problem.space.strategies().iter();
        if let Some(&strategy) = strategies.find(|&&strategy| !problem.cost.prices(strategy)) {
            return Err(PlanError::Unpriced { strategy });
        }
        let mut sorted: Vec<Sequence> = problem.batch.sequences().collect();
        sorted.sort_unstable_by_key(|sequence| (sequence.seq_len, sequence.index));
        let mut class_lens = Vec::new();
        let mut class_starts = Vec::new();
        for (position, sequence) in sorted.iter().enumerate() {
            if class_lens.last() != Some(&sequence.seq_len) {
                class_lens.push(sequence.seq_len);
                class_starts.push(position as u32);
            }
        }
        class_starts.push(sorted.len() as u32);
        let all: Vec<Budget> = budgets_by_node(problem).into_iter().flatten().collect();
        let mut budgets: Vec<u64> = all.iter().map(|budget| budget.memory).collect();
        budgets.sort_unstable_by(|a, b| b.cmp(a));
        let weakest = all.into_iter().fold(Budget::MOST, Budget::least);
        let group_budgets = match needs_runs(problem.cluster, &problem.rules) {
            true => GroupBudgets::of_runs(problem),
            false => GroupBudgets::of_any(problem),
        };
        let mut shapes = possible_shapes(problem, &group_budgets)?;
        let joint_memory = JointMemory::of(problem.cost, problem.cluster);
        let mut time = Vec::with_capacity(shapes.len() * class_lens.len());
        let mut memory = Vec::with_capacity(shapes.len() * class_lens.len());
        let limits_memory = problem.rules.limits_memory();
        let counts_hosts = limits_memory && !joint_memory.says_all();
        let mut host = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            let group_shape = GroupShape {
                strategy: shape.strategy,
                span: shape.span,
            };
            let times = problem.cost.sequence_times(group_shape, &class_lens);
            time.extend(times.into_iter().map(Seconds::get));
            if index > 0 && shapes[index - 1].strategy == shape.strategy {
                // Memory does not ask where a group is.
                memory.extend_from_within(memory.len() - class_lens.len()..);
                host.extend_from_within(host.len() - host.len().min(class_lens.len())..);
                continue;
            }
            memory.extend(class_lens.iter().map(|&seq_len| match limits_memory {
                true => joint_memory.load(problem.cost, shape.strategy, seq_len).0,
                false => 0,
            }));
            if counts_hosts {
                let bytes = |&seq_len: &Tokens| {
                    joint_memory
                        .host_load(problem.cost, shape.strategy, seq_len)
                        .0
                };
                host.extend(class_lens.iter().map(bytes));
            }
        }
        check_costs_rise(&shapes, &class_lens, &time, &[&memory, &host])?;
        let num_classes = class_lens.len();
        let is_outdone = outdone(&shapes, &time, &[&memory, &host], num_classes);
        let mut outdone_shapes = Vec::new();
        if is_outdone.contains(&true) {
            let row = |shape: usize| shape * num_classes..(shape + 1) * num_classes;
            let (mut all, mut times, mut memories) = (Vec::new(), Vec::new(), Vec::new());
            let mut hosts = Vec::new();
            for (index, shape) in shapes.into_iter().enumerate() {
                if is_outdone[index] {
                    outdone_shapes.push(OutdoneShape {
                        shape,
                        time: time[row(index)].to_vec(),
                        memory: memory[row(index)].to_vec(),
                    });
                } else {
                    all.push(shape);
                    times.extend_from_slice(&time[row(index)]);
                    memories.extend_from_slice(&memory[row(index)]);
                    hosts.extend_from_slice(host.get(row(index)).unwrap_or(&[]));
                }
            }
            (shapes, time, memory, host) = (all, times, memories, hosts);
        }
        let alternatives = shapes.iter().map(|shape| {
            let budgets = group_budgets.best_budgets(shape.degree, shape.span);
            if budgets.len() > 1 {
                budgets.to_vec()
            } else {
                Vec::new()
            }
        });
        let mut instance = Instance {
            problem,
            outdone: outdone_shapes,
            alternatives: alternatives.collect(),
            weakest,
            host,
            tokens: class_lens.iter().map(|seq_len| seq_len.0).collect(),
            class_lens,
            sorted: sorted.iter().map(|sequence| sequence.index).collect(),
            class_starts,
            shapes,
            shortlists: Vec::new(),
            time,
            memory,
            budgets,
            memory_price: 0.0,
            devices: Devices::of(problem),
            overhead: problem.cost.micro_batch_overhead().get(),
            limit: Limit::Memory,
            total_speed: problem
                .cluster
                .devices()
                .iter()
                .map(|device| device.speed().get())
                .sum(),
            least_work: 0.0,
            least_makespan: 0.0,
        };
        instance.check_times()?;
        instance.check_feasible()?;
        instance.sum_up();
        instance.limit = tightest_limit(&instance);
        check_rules(&instance)?;
        instance.shortlists = shortlists(&instance);
        Ok(instance)
    }

    /// Finds the least work and makespan.
    fn sum_up(&mut self) {
        let devices = self.problem.cluster.devices().iter();
        let fastest = devices.map(|device| device.speed().get());
        let fastest = fastest.fold(0.0, f64::max);
        (self.least_work, self.least_makespan) = (0.0, 0.0);
        for class in 0..self.num_classes() {
            let fitting = (0..self.shapes.len()).filter(|&shape| self.fits(shape, class));
            let (mut cost, mut work, mut time) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
            for shape in fitting {
                let priced = self.cost(shape, class);
                if priced < cost {
                    (cost, work) = (priced, self.work(shape, class));
                }
                time = time.min(self.time(shape, class) / fastest);
            }
            self.least_work += work * self.members(class).len() as f64;
            self.least_makespan = self.least_makespan.max(time);
        }
    }

    /// The same problem with the shapes of a shortlist alone, and its price.
    pub(crate) fn shortlisted(&self, shortlist: &Shortlist) -> Self {
        let kept = &shortlist.shapes;
        let times = kept.iter().flat_map(|&shape| self.times(shape));
        let memories = kept.iter().flat_map(|&shape| self.memories(shape));
        let hosts = kept.iter().flat_map(|&shape| self.hosts(shape));
        let alternatives = kept.iter().map(|&shape| self.alternatives[shape].clone());
        let mut instance = Instance {
            class_lens: self.class_lens.clone(),
            class_starts: self.class_starts.clone(),
            time: times.copied().collect(),
            memory: memories.copied().collect(),
            host: hosts.copied().collect(),
            alternatives: alternatives.collect(),
            tokens: self.tokens.clone(),
            sorted: self.sorted.clone(),
            outdone: Vec::new(),
            shapes: kept.iter().map(|&shape| self.shapes[shape]).collect(),
            shortlists: Vec::new(),
            memory_price: shortlist.memory_price,
            budgets: self.budgets.clone(),
            devices: self.devices.clone(),
            ..*self
        };
        instance.sum_up();
        instance.limit = tightest_limit(&instance);
        instance
    }

    /// The same problem with runs of classes merged, which begin at `starts`, cost `time`, `memory` and `host`, and have
    /// `tokens`.
    pub(crate) fn with_classes(
        &self,
        starts: &[usize],
        time: Vec<f64>,
        memory: Vec<u64>,
        host: Vec<u64>,
        tokens: Vec<u64>,
    ) -> Self {
        let firsts = &starts[..starts.len() - 1];
        Instance {
            class_lens: firsts.iter().map(|&class| self.class_lens[class]).collect(),
            class_starts: starts
                .iter()
                .map(|&class| self.class_starts[class])
                .collect(),
            time,
            memory,
            host,
            alternatives: self.alternatives.clone(),
            tokens,
            sorted: self.sorted.clone(),
            outdone: Vec::new(),
            shapes: self.shapes.clone(),
            shortlists: Vec::new(),
            budgets: self.budgets.clone(),
            devices: self.devices.clone(),
            ..*self
        }
    }

    pub(crate) fn num_classes(&self) -> usize {
        self.class_lens.len()
    }

    /// The sequences of a class, by index.
    pub(crate) fn members(&self, class: usize) -> &[SequenceIndex] {
        let range: Range<usize> =
            self.class_starts[class] as usize..self.class_starts[class + 1] as usize;
        &self.sorted[range]
    }

    /// Seconds that a sequence of each class adds to a group of `shape` at nominal speed.
    pub(crate) fn times(&self, shape: usize) -> &[f64] {
        let num = self.class_lens.len();
        &self.time[shape * num..][..num]
    }

    /// Bytes that it adds on each device.
    pub(crate) fn memories(&self, shape: usize) -> &[u64] {
        let num = self.class_lens.len();
        &self.memory[shape * num..][..num]
    }

    /// Seconds that a sequence of `class` adds to a group of `shape` at nominal speed.
    pub(crate) fn time(&self, shape: usize, class: usize) -> f64 {
        self.time[shape * self.class_lens.len() + class]
    }

    /// Bytes that it adds on each device.
    pub(crate) fn memory(&self, shape: usize, class: usize) -> u64 {
        self.memory[shape * self.class_lens.len() + class]
    }

    /// Bytes that it adds on the weakest device, of its host counted as such, so that its memory alone limits both.
    pub(crate) fn memory_on_weakest(&self, shape: usize, class: usize) -> u64 {
        let Load { memory, host, .. } = self.load(shape, class);
        let scaled = u128::from(host) * u128::from(self.weakest.memory);
        let scaled = match (host, self.weakest.host) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (_, budget) => u64::try_from(scaled.div_ceil(budget.into())).unwrap_or(u64::MAX),
        };
        memory.max(scaled)
    }

    /// Bytes that it adds of each device's host; empty where the others say all.
    pub(crate) fn hosts(&self, shape: usize) -> &[u64] {
        let num = self.class_lens.len();
        self.host.get(shape * num..(shape + 1) * num).unwrap_or(&[])
    }

    /// Tokens of a sequence of each class.
    pub(crate) fn tokens(&self) -> &[u64] {
        &self.tokens
    }

    /// The load that a sequence of `class` adds to a group of `shape`.
    pub(crate) fn load(&self, shape: usize, class: usize) -> Load {
        Load {
            memory: self.memory(shape, class),
            host: self.hosts(shape).get(class).copied().unwrap_or(0),
            tokens: self.tokens[class],
            sequences: 1,
        }
    }

    /// The load that a group of `shape` may hold whose devices all have `budget`.
    pub(crate) fn capacity(&self, shape: usize, budget: Budget) -> Load {
        Load {
            memory: budget.memory,
            host: budget.host,
            tokens: self.shapes[shape].most_tokens,
            sequences: self.problem.rules.most_sequences(),
        }
    }

    /// The part of a device that a sequence of `class` takes in a group of `shape`, by the limit that binds first: of the
    /// largest budget, of the tokens of a rank, or of the sequences of a group.
    pub(crate) fn share(&self, shape: usize, class: usize) -> f64 {
        match self.limit {
            Limit::Memory => self.memory(shape, class) as f64 / self.budget_unit(),
            Limit::Tokens => self.tokens[class] as f64 / self.shapes[shape].most_tokens as f64,
            Limit::Sequences => 1.0 / f64::from(self.problem.rules.most_sequences()),
        }
    }

    /// The share of it that so many devices offer.
    pub(crate) fn total_share(&self, num_devices: usize) -> f64 {
        match self.limit {
            Limit::Memory => self.total_budget(num_devices) / self.budget_unit(),
            Limit::Tokens | Limit::Sequences => num_devices as f64,
        }
    }

    /// The figure of a load that room is measured by.
    pub(crate) fn measure(&self, load: Load) -> u64 {
        match self.limit {
            Limit::Memory => load.memory,
            Limit::Tokens => load.tokens,
            Limit::Sequences => load.sequences.into(),
        }
    }

    /// Device-seconds at nominal speed that a sequence of `class` takes in `shape`.
    pub(crate) fn work(&self, shape: usize, class: usize) -> f64 {
        f64::from(self.shapes[shape].degree) * self.time(shape, class)
    }

    /// Device-seconds that it takes, and that its memory is worth.
    pub(crate) fn cost(&self, shape: usize, class: usize) -> f64 {
        let memory = self.memory_price * self.share(shape, class);
        f64::from(self.shapes[shape].degree) * (self.time(shape, class) + memory)
    }

    /// Device-seconds that the batch takes with every sequence in its cheapest shape.
    pub(crate) fn least_work(&self) -> f64 {
        self.least_work
    }

    /// The largest budget of any device as a unit of memory; at least 1.
    pub(crate) fn budget_unit(&self) -> f64 {
        self.budgets
            .first()
            .map_or(1.0, |&budget| (budget as f64).max(1.0))
    }

    /// What every device has at least.
    pub(crate) fn weakest(&self) -> Budget {
        self.weakest
    }

    /// The largest budgets of so many devices together.
    pub(crate) fn total_budget(&self, num_devices: usize) -> f64 {
        let largest = &self.budgets[..num_devices];
        largest.iter().map(|&budget| budget as f64).sum()
    }

    /// The time of the sequence that takes longest in its fastest shape: some makespan is at least that.
    pub(crate) fn least_makespan(&self) -> f64 {
        self.least_makespan
    }

    pub(crate) fn num_sequences(&self) -> usize {
        self.sorted.len()
    }

    /// The position of the shape of this strategy and span.
    pub(crate) fn shape_of(&self, strategy: Strategy, span: Span) -> Option<usize> {
        self.shapes
            .iter()
            .position(|shape| shape.strategy == strategy && shape.span == span)
    }

    /// Whether a sequence of `class` fits a group of `shape` on the devices with most memory.
    pub(crate) fn fits(&self, shape: usize, class: usize) -> bool {
        self.has_room(shape, self.load(shape, class))
    }

    /// Whether a group of `shape` can hold so much on the devices with most memory.
    pub(crate) fn has_room(&self, shape: usize, load: Load) -> bool {
        load.fits(self.capacity(shape, self.shapes[shape].best_budget)) && self.holds(shape, load)
    }

    /// Whether the devices of some group of `shape` have so much memory.
    fn holds(&self, shape: usize, load: Load) -> bool {
        match &self.alternatives[shape][..] {
            [] => self.shapes[shape].best_budget.holds(load),
            budgets => budgets.iter().any(|budget| budget.holds(load)),
        }
    }

    /// Sums of times must stay numbers.
    fn check_times(&self) -> Result<(), PlanError> {
        for (index, shape) in self.shapes.iter().enumerate() {
            let mut times = self.times(index).iter().zip(&self.class_lens);
            if let Some((&seconds, &seq_len)) = times.find(|&(&seconds, _)| seconds > MAX_SECONDS) {
                return Err(PlanError::TakesForEver {
                    seq_len,
                    degree: shape.degree,
                    seconds,
                });
            }
        }
        Ok(())
    }

    /// A batch can be planned if each of its sequences can alone: memory does not decrease with length,
    /// but the best degree may, so every class is looked at.
    fn check_feasible(&self) -> Result<(), PlanError> {
        for class in (0..self.num_classes()).rev() {
            if !(0..self.shapes.len()).any(|shape| self.fits(shape, class)) {
                let all: Vec<usize> = (0..self.shapes.len()).collect();
                return Err(self.does_not_fit(class, &all));
            }
        }
        Ok(())
    }

    /// The largest degree that the cluster is large enough for.
    pub(crate) fn largest_degree(&self) -> Degree {
        let last = self.shapes.last();
        last.map_or(Degree::ONE, |shape| shape.strategy.degree())
    }

    /// The degrees of the strategy space that the cluster is large enough for, as a list to read.
    pub(crate) fn available_degrees(&self) -> String {
        let mut degrees: Vec<u32> = self.shapes.iter().map(|shape| shape.degree).collect();
        degrees.dedup();
        let degrees: Vec<String> = degrees.iter().map(u32::to_string).collect();
        degrees.join(", ")
    }

    /// The error of a planner that is bound to one degree, which some sequence does not fit.
    pub(crate) fn does_not_fit_degree(&self, degree: Degree) -> PlanError {
        let of_degree = |shape: &usize| self.shapes[*shape].degree == degree.get();
        let shapes: Vec<usize> = (0..self.shapes.len()).filter(of_degree).collect();
        let lacking = |class: &usize| !shapes.iter().any(|&shape| self.fits(shape, *class));
        let class = (0..self.num_classes()).rev().find(lacking);
        self.does_not_fit(class.unwrap_or(self.num_classes() - 1), &shapes)
    }

    /// The error for a sequence of `class` that fits none of `shapes`, of which there is at least one.
    fn does_not_fit(&self, class: usize, shapes: &[usize]) -> PlanError {
        let is_in_memory = |&shape: &usize| self.holds(shape, self.load(shape, class));
        let largest = shapes.iter().copied().filter(is_in_memory);
        if let Some(largest) = largest.max_by_key(|&shape| self.shapes[shape].degree) {
            return too_many_tokens(self, largest, class);
        }
        let seq_len = self.class_lens[class];
        let setting = Setting::of(self.problem);
        let of_shape = |&shape: &usize| {
            let needed = setting.needed_memory(self.shapes[shape].strategy, seq_len)?;
            Some((shape, needed))
        };
        // What comes nearest to what there is.
        let nearest = shapes.iter().filter_map(of_shape);
        let nearest = nearest.min_by_key(|(_, needed)| {
            let [on_device, on_host] = needed.lacking();
            on_device.0.saturating_add(on_host.0)
        });
        let degree = nearest.map_or(0, |(shape, _)| self.shapes[shape].degree);
        let (limit, predicted_memory, budget) = match nearest {
            // Memory is on hosts to begin with because devices have too little.
            Some((_, needed)) if needed.lacking()[1] > Bytes(0) => {
                (MemoryLimit::Hosts, needed.on_host, needed.host_budget)
            }
            Some((_, needed)) => (MemoryLimit::Devices, needed.on_device, needed.budget),
            None => (MemoryLimit::Devices, Bytes(0), Bytes(0)),
        };
        let devices = self.problem.cluster.devices();
        let mut strategies = self.problem.space.strategies().iter();
        let num_devices = strategies.find(|&&strategy| {
            let mut devices = devices.iter();
            devices.any(|device| self.problem.cost.fits(device, strategy, seq_len))
        });
        PlanError::DoesNotFit {
            sequence: self.members(class)[0],
            seq_len,
            predicted_memory,
            degree,
            budget,
            limit,
            num_devices: num_devices.map(|strategy| strategy.degree().get()),
        }
    }
}

/// Time and memory must not fall with length: drafts, swaps and bounds rest on it.
fn check_costs_rise(
    shapes: &[Shape],
    class_lens: &[Tokens],
    time: &[f64],
    memories: &[&[u64]],
) -> Result<(), PlanError> {
    let num = class_lens.len();
    for (index, shape) in shapes.iter().enumerate() {
        let row = index * num..(index + 1) * num;
        let lens = class_lens.windows(2);
        let times = time[row.clone()].windows(2);
        let memories: Vec<&[u64]> = memories
            .iter()
            .filter_map(|of| of.get(row.clone()))
            .collect();
        for (class, (lens, times)) in lens.zip(times).enumerate() {
            let mut memories = memories.iter();
            let cost = if times[1] < times[0] {
                "time"
            } else if memories.any(|of| of[class + 1] < of[class]) {
                "memory"
            } else {
                continue;
            };
            return Err(PlanError::CostFalls {
                cost,
                degree: shape.degree,
                shorter: lens[0],
                longer: lens[1],
            });
        }
    }
    Ok(())
}

/// The shapes that groups can have on the cluster: one node where one is large enough, and many nodes where
/// there are several.
fn possible_shapes(
    problem: Problem<'_>,
    group_budgets: &GroupBudgets,
) -> Result<Vec<Shape>, PlanError> {
    let mut shapes = Vec::new();
    let allowed = problem.space.strategies().iter();
    let allowed = allowed.filter(|strategy| problem.rules.allows_degree(strategy.degree()));
    for &strategy in allowed {
        let degree = strategy.degree();
        for span in [Span::OneNode, Span::ManyNodes] {
            let budgets = group_budgets
                .best_budgets(degree.get(), span)
                .iter()
                .copied();
            if let Some(best_budget) = budgets.reduce(Budget::most) {
                shapes.push(Shape {
                    strategy,
                    span,
                    degree: degree.get(),
                    best_budget,
                    most_tokens: problem.rules.most_tokens(degree).0,
                });
            }
        }
    }
    if shapes.is_empty() {
        check_degrees(problem)?;
        return Err(PlanError::NoDegreeFits {
            smallest_degree: problem.space.degrees().next().map_or(0, |d| d.get()),
            num_devices: problem.cluster.num_devices(),
        });
    }
    Ok(shapes)
}
