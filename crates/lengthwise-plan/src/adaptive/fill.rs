//! The constructive heuristic of the adaptive planner: a draft is filled up to target makespans.

use std::ops::Range;

use lengthwise_cost::Span;

use super::pool::{Open, Pool};
use crate::draft::{Draft, Placed};
use crate::instance::Instance;

/// Fills micro-batches up to given makespans, from the longest sequences to the shortest.
///
/// This is best-fit-decreasing bin packing: groups are the bins, with two capacities, the makespan and the memory budget.
/// Each sequence goes to the shape that costs the least, in device-seconds and memory at its price, there to the micro-batch
/// with the longest makespan, and in that to the group that it fills best. So long sequences come together, in as small groups
/// as their makespan allows, and short sequences fill the gaps.
pub(crate) struct Filler<'a, 'p> {
    instance: &'a Instance<'p>,
    /// For each class the shapes it fits, by what they cost.
    orders: Vec<Vec<u32>>,
    /// What they cost, in the same order.
    costs: Vec<Vec<f64>>,
    fastest: f64,
    /// Those of the fill under way; kept for their memory.
    pools: Vec<Pool>,
}

/// How shapes and groups are chosen for a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FillPolicy {
    /// A sequence may cost up to this many times its least to share a micro-batch with longer ones.
    pub(crate) tolerance: f64,
    /// Whether it takes room in any group that is open, of a tolerated shape, before a new group is opened for it.
    /// That packs the long ones tightly and leaves more devices to the short ones.
    pub(crate) open_groups_first: bool,
}

impl FillPolicy {
    /// Every sequence in its cheapest shape only.
    pub(crate) const CHEAPEST: FillPolicy = FillPolicy {
        tolerance: 1.0,
        open_groups_first: false,
    };
}

/// A micro-batch and shape that sequences may go to.
#[derive(Clone, Copy)]
struct Choice {
    micro_batch: u32,
    shape: u32,
    is_tolerated: bool,
}

/// How often makespans are prolonged for what they did not hold.
const MAX_ATTEMPTS: usize = 2;

/// With more sequences left over than this, they get micro-batches of their own.
const MAX_SQUEEZED: u32 = 24;

impl<'a, 'p> Filler<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>) -> Self {
        let num_shapes = instance.shapes.len();
        let (mut orders, mut costs) = (Vec::new(), Vec::new());
        for class in 0..instance.num_classes() {
            let fitting = (0..num_shapes).filter(|&shape| instance.fits(shape, class));
            let mut order: Vec<(f64, u32)> = fitting
                .map(|shape| (instance.cost(shape, class), shape as u32))
                .collect();
            order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            orders.push(order.iter().map(|&(_, shape)| shape).collect());
            costs.push(order.iter().map(|&(cost, _)| cost).collect());
        }
        let devices = instance.problem.cluster.devices().iter();
        Filler {
            instance,
            orders,
            costs,
            fastest: devices
                .map(|device| device.speed().get())
                .fold(0.0, f64::max),
            pools: Vec::new(),
        }
    }

    /// A draft with these makespans where that is possible, and how many attempts it took.
    ///
    /// Where sequences are left over, the makespan at `absorber` is prolonged by their work and the filling begins
    /// anew, a few times; then what is left over gets micro-batches of its own.
    pub(crate) fn fill(
        &mut self,
        targets: &[f64],
        absorber: usize,
        policy: FillPolicy,
    ) -> (Draft, usize) {
        let mut targets = targets.to_vec();
        let everything = self.all_classes();
        for attempt in 1..=MAX_ATTEMPTS {
            let mut descending = targets.clone();
            descending.sort_by(|a, b| b.total_cmp(a));
            let mut draft = Draft::default();
            let left_over = self.fill_from(&mut draft, &descending, 0, &everything, policy);
            let count: u32 = left_over.iter().map(|&(_, count)| count).sum();
            if count == 0 || count <= MAX_SQUEEZED && self.squeeze_in(&mut draft, &left_over) {
                return (draft, attempt);
            }
            match targets.get_mut(absorber).filter(|_| attempt < MAX_ATTEMPTS) {
                Some(target) => *target += 1.02 * self.work(&left_over) / self.instance.total_speed,
                None => return (self.fill_rest(draft, descending, left_over), attempt),
            }
        }
        (Draft::default(), MAX_ATTEMPTS)
    }

    /// Opens micro-batches for what is left over until nothing is.
    fn fill_rest(
        &mut self,
        mut draft: Draft,
        mut targets: Vec<f64>,
        mut left_over: Vec<(u32, u32)>,
    ) -> Draft {
        let mut is_stuck = false;
        while !left_over.is_empty() {
            let from = targets.len();
            // Where no group there is can meet the makespan, any time is right: each sequence fits some group.
            targets.push(if is_stuck {
                f64::INFINITY
            } else {
                self.target_of(&left_over)
            });
            let placed = draft.placed.len();
            left_over =
                self.fill_from(&mut draft, &targets, from, &left_over, FillPolicy::CHEAPEST);
            is_stuck = draft.placed.len() == placed;
        }
        draft
    }

    /// Device-seconds that the sequences take at least.
    fn work(&self, classes: &[(u32, u32)]) -> f64 {
        let work = |&(class, count): &(u32, u32)| {
            let cheapest = self.orders[class as usize][0] as usize;
            self.instance.work(cheapest, class as usize) * f64::from(count)
        };
        classes.iter().map(work).sum()
    }

    fn all_classes(&self) -> Vec<(u32, u32)> {
        (0..self.instance.num_classes() as u32)
            .rev()
            .map(|class| (class, self.instance.members(class as usize).len() as u32))
            .collect()
    }

    /// A makespan that the given sequences can fill one micro-batch with.
    fn target_of(&self, classes: &[(u32, u32)]) -> f64 {
        let cheapest = |&(class, _): &(u32, u32)| {
            let shape = self.orders[class as usize][0] as usize;
            self.instance.time(shape, class as usize)
        };
        let longest = classes.iter().map(cheapest).fold(0.0, f64::max);
        longest.max(1.02 * self.work(classes) / self.instance.total_speed)
    }

    /// Fills the micro-batches from `from` on; returns what is left over.
    fn fill_from(
        &mut self,
        draft: &mut Draft,
        targets: &[f64],
        from: usize,
        classes: &[(u32, u32)],
        policy: FillPolicy,
    ) -> Vec<(u32, u32)> {
        for _ in from..targets.len() {
            draft.open_micro_batch(self.instance);
        }
        let num_shapes = self.instance.shapes.len();
        let num_pools = targets.len() * num_shapes;
        let mut pools = std::mem::take(&mut self.pools);
        pools.iter_mut().for_each(Pool::clear);
        pools.resize_with(pools.len().max(num_pools), Pool::default);
        let mut choices = Vec::new();
        let mut listed_for: (&[u32], usize) = (&[], 0);
        let mut left_over = Vec::new();
        for &(class, count) in classes {
            let order = &self.orders[class as usize];
            let num_tolerated = self.num_tolerated(class, policy.tolerance);
            if (order.as_slice(), num_tolerated) != listed_for {
                listed_for = (order, num_tolerated);
                list_choices(order, num_tolerated, from..targets.len(), &mut choices);
            }
            let mut left = count;
            if policy.open_groups_first {
                let tolerated = choices.iter().take_while(|choice| choice.is_tolerated);
                for choice in tolerated {
                    let pool = &mut pools
                        [choice.micro_batch as usize * num_shapes + choice.shape as usize];
                    let target = targets[choice.micro_batch as usize];
                    left -= self.place_in_open(draft, pool, (choice.shape, target), class, left);
                    if left == 0 {
                        break;
                    }
                }
            }
            let (mut num_seen, mut num_kept) = (0, 0);
            while left > 0 && num_seen < choices.len() {
                let choice = choices[num_seen];
                num_seen += 1;
                let pool =
                    &mut pools[choice.micro_batch as usize * num_shapes + choice.shape as usize];
                let target = targets[choice.micro_batch as usize];
                let time = self.instance.time(choice.shape as usize, class as usize);
                if time <= target * self.fastest {
                    left -= self.place(draft, pool, (choice, target), class, left);
                    if left > 0 && pool.is_closed && pool.is_full() {
                        continue;
                    }
                }
                choices[num_kept] = choice;
                num_kept += 1;
            }
            choices.drain(num_kept..num_seen);
            if left > 0 {
                left_over.push((class, left));
            }
        }
        self.pools = pools;
        left_over
    }

    /// How many shapes, the cheapest first, cost a sequence of `class` at most `tolerance` times the cheapest.
    fn num_tolerated(&self, class: u32, tolerance: f64) -> usize {
        let costs = &self.costs[class as usize];
        let within = tolerance * costs[0];
        costs.partition_point(|&cost| cost <= within)
    }

    /// Puts up to `count` sequences into groups of the pool and new ones; returns how many.
    fn place(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        (choice, target): (Choice, f64),
        class: u32,
        count: u32,
    ) -> u32 {
        let mut left = count;
        loop {
            left -= self.place_in_open(draft, pool, (choice.shape, target), class, left);
            if left == 0 {
                return count;
            }
            match self.open(draft, pool, (choice, target), class) {
                Some(open) => pool.push(open, class),
                None => return count - left,
            }
        }
    }

    /// Puts up to `count` sequences into open groups of the pool; returns how many.
    fn place_in_open(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        (shape, target): (u32, f64),
        class: u32,
        count: u32,
    ) -> u32 {
        let mut left = count;
        while left > 0
            && let Some(position) = pool.best_fit(class)
        {
            let of = (shape as usize, target);
            let (taken, open) = pool.take(self.instance, position, of, class, left);
            if taken > 0 {
                left -= taken;
                let group = &mut draft.groups[open.group as usize];
                group.time = open.time;
                let added = self.instance.load(shape as usize, class as usize);
                group.load = group.load + added.times(taken);
                draft.placed.push(Placed {
                    class,
                    group: open.group,
                    count: taken,
                });
            }
        }
        count - left
    }

    /// Opens a group of exactly this shape that one sequence of `class` fits.
    fn open(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        (choice, target): (Choice, f64),
        class: u32,
    ) -> Option<Open> {
        let instance = self.instance;
        let wanted = &instance.shapes[choice.shape as usize];
        let free = &draft.free[choice.micro_batch as usize];
        if pool.is_closed {
            return None;
        }
        if free.num_free() < wanted.degree {
            pool.is_closed = true;
            return None;
        }
        let load = instance.load(choice.shape as usize, class as usize);
        let allocation = free.find(&instance.devices, wanted.degree, load)?;
        if allocation.span != wanted.span {
            // Devices that no node has left together none will have later.
            pool.is_closed = wanted.span == Span::OneNode && instance.devices.are_equal();
            return None;
        }
        let slowness = allocation.slowness;
        if instance.time(choice.shape as usize, class as usize) * slowness > target {
            return None;
        }
        Some(Open {
            time: 0.0,
            room: instance.capacity(choice.shape as usize, allocation.budget),
            slowness,
            group: draft.add_group(instance, choice.micro_batch, choice.shape, allocation),
        })
    }

    /// Adds the sequences where they prolong the step least; `false` where memory does not allow it, or
    /// micro-batches of their own would take less.
    fn squeeze_in(&self, draft: &mut Draft, classes: &[(u32, u32)]) -> bool {
        let instance = self.instance;
        let before = (draft.groups.clone(), draft.placed.len());
        let mut makespans = draft.makespans();
        let mut allowance = instance.overhead + self.target_of(classes);
        for &(class, count) in classes {
            for _ in 0..count {
                let mut best: Option<(f64, u32, f64)> = None;
                for (index, group) in draft.groups.iter().enumerate() {
                    if group.has_room(instance, class as usize) {
                        let time = group.time + group.added_time(instance, class as usize);
                        let longer = (time - makespans[group.micro_batch as usize]).max(0.0);
                        if best.is_none_or(|(least, ..)| longer < least) {
                            best = Some((longer, index as u32, time));
                        }
                    }
                }
                let affordable = best.filter(|&(longer, ..)| longer <= allowance);
                let Some((longer, group, time)) = affordable else {
                    draft.groups = before.0;
                    draft.placed.truncate(before.1);
                    return false;
                };
                allowance -= longer;
                draft.place(instance, class as usize, group);
                let makespan = &mut makespans[draft.groups[group as usize].micro_batch as usize];
                *makespan = makespan.max(time);
            }
        }
        true
    }
}

/// Lists the choices of a sequence, the preferred ones first: micro-batch by micro-batch for the tolerated shapes, then
/// shape by shape.
fn list_choices(
    order: &[u32],
    num_tolerated: usize,
    micro_batches: Range<usize>,
    choices: &mut Vec<Choice>,
) {
    choices.clear();
    let (tolerated, others) = order.split_at(num_tolerated);
    let micro_batches = micro_batches.start as u32..micro_batches.end as u32;
    for micro_batch in micro_batches.clone() {
        choices.extend(tolerated.iter().map(|&shape| Choice {
            micro_batch,
            shape,
            is_tolerated: true,
        }));
    }
    for &shape in others {
        choices.extend(micro_batches.clone().map(|micro_batch| Choice {
            micro_batch,
            shape,
            is_tolerated: false,
        }));
    }
}
