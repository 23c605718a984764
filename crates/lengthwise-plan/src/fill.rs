//! The constructive half of the adaptive planner: from makespans to aim at to a draft.

use lengthwise_cost::Span;

use crate::draft::{Draft, Placed};
use crate::instance::Instance;

/// Fills micro-batches up to given makespans, from the longest sequences to the shortest.
///
/// Each sequence goes to the shape that costs the fewest device-seconds, there to the micro-batch with the longest
/// makespan, and in that to the group that it fills best. So long sequences come together, in as
/// small groups as their makespan allows, and the short ones fill the gaps like sand.
pub(crate) struct Filler<'a, 'p> {
    instance: &'a Instance<'p>,
    /// For each class the shapes it fits, by device-seconds.
    orders: Vec<Vec<u32>>,
    /// What the cheapest sequence of all adds in each shape: groups with less time or memory left are full.
    least_time: Vec<f64>,
    least_memory: Vec<u64>,
    fastest: f64,
    /// Those of the fill under way; kept for their memory.
    pools: Vec<Pool>,
}

/// A group that may take more, as it stands in the pool of its micro-batch and shape.
#[derive(Clone, Copy)]
struct Open {
    time: f64,
    room: u64,
    slowness: f64,
    group: u32,
}

/// The groups of one micro-batch and shape that are not full.
#[derive(Clone, Default)]
struct Pool {
    open: Vec<Open>,
    /// Where the next search begins.
    cursor: usize,
    /// No open group has more room, nor less time behind it, than this.
    most_room: u64,
    least_time: f64,
    /// Whether no more groups can be opened.
    is_closed: bool,
}

/// How many groups of a pool are looked at in one go, and how often before it counts as full: groups of a pool
/// are much alike, so that a best fit among some hundred is as good as one among all.
const WINDOW: usize = 128;
const NUM_WINDOWS: usize = 4;

/// How often makespans are prolonged for what they did not hold.
const MAX_ATTEMPTS: usize = 2;

/// With more sequences left over than this, they get micro-batches of their own.
const MAX_SQUEEZED: u32 = 24;

impl<'a, 'p> Filler<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>) -> Self {
        let num_shapes = instance.shapes.len();
        let order = |class| {
            let work = |&shape: &u32| instance.work(shape as usize, class);
            let mut order: Vec<u32> = (0..num_shapes as u32)
                .filter(|&shape| instance.fits(shape as usize, class))
                .collect();
            order.sort_by(|a, b| work(a).total_cmp(&work(b)));
            order
        };
        let devices = instance.problem.cluster.devices().iter();
        Filler {
            instance,
            orders: (0..instance.num_classes()).map(order).collect(),
            least_time: (0..num_shapes)
                .map(|shape| instance.time(shape, 0))
                .collect(),
            least_memory: (0..num_shapes)
                .map(|shape| instance.memory(shape, 0))
                .collect(),
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
    pub(crate) fn fill(&mut self, targets: &[f64], absorber: usize, tolerance: f64) -> (Draft, usize) {
        let mut targets = targets.to_vec();
        let everything = self.all_classes();
        for attempt in 1..=MAX_ATTEMPTS {
            let mut descending = targets.clone();
            descending.sort_by(|a, b| b.total_cmp(a));
            let mut draft = Draft::default();
            let left_over = self.fill_from(&mut draft, &descending, 0, &everything, tolerance);
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
            left_over = self.fill_from(&mut draft, &targets, from, &left_over, 1.0);
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
    ///
    /// Sequences prefer one micro-batch after the other as long as a shape costs at most `tolerance` times the
    /// cheapest, then one shape after the other.
    fn fill_from(
        &mut self,
        draft: &mut Draft,
        targets: &[f64],
        from: usize,
        classes: &[(u32, u32)],
        tolerance: f64,
    ) -> Vec<(u32, u32)> {
        for _ in from..targets.len() {
            draft.open_micro_batch(self.instance);
        }
        let num_shapes = self.instance.shapes.len();
        let num_pools = (targets.len() - from) * num_shapes;
        let mut pools = std::mem::take(&mut self.pools);
        pools.iter_mut().for_each(Pool::empty);
        if pools.len() < num_pools {
            pools.resize_with(num_pools, Pool::default);
        }
        let longest: Vec<f64> = targets[from..]
            .iter()
            .map(|target| target * self.fastest)
            .collect();
        let mut left_over = Vec::new();
        for &(class, count) in classes {
            let order = &self.orders[class as usize];
            let work = |shape: u32| self.instance.work(shape as usize, class as usize);
            let within = tolerance * work(order[0]);
            let num_tolerated = order.partition_point(|&shape| work(shape) <= within);
            let (tolerated, others) = order.split_at(num_tolerated);
            let mut left = count;
            let mut place = |pool: usize, shape: u32| {
                if self.instance.time(shape as usize, class as usize) <= longest[pool] {
                    let micro_batch = from + pool;
                    let pool = &mut pools[pool * num_shapes + shape as usize];
                    let to = (micro_batch as u32, targets[micro_batch], shape);
                    left -= self.place(draft, pool, to, class, left);
                }
                left == 0
            };
            let mut first = (0..longest.len())
                .flat_map(|pool| tolerated.iter().map(move |&shape| (pool, shape)));
            let mut then = others
                .iter()
                .flat_map(|&shape| (0..longest.len()).map(move |pool| (pool, shape)));
            let all_placed = first.any(|(pool, shape)| place(pool, shape))
                || then.any(|(pool, shape)| place(pool, shape));
            if !all_placed {
                left_over.push((class, left));
            }
        }
        self.pools = pools;
        left_over
    }

    /// Puts up to `count` sequences into groups of the pool and new ones; returns how many.
    fn place(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        (micro_batch, target, shape): (u32, f64, u32),
        class: u32,
        count: u32,
    ) -> u32 {
        let instance = self.instance;
        let time = instance.time(shape as usize, class as usize);
        let memory = instance.memory(shape as usize, class as usize);
        let equal_speeds = instance.devices.are_equal();
        let mut num_placed = 0;
        while num_placed < count {
            let position = match pool.best_fit(time, memory, target, equal_speeds) {
                Some(position) => position,
                None => match self.open(draft, pool, (micro_batch, target, shape), class) {
                    Some(open) => pool.push(open),
                    None => break,
                },
            };
            let open = &mut pool.open[position];
            let mut num_taken = 0;
            // The group that is filled best stays so until it is full.
            while num_placed + num_taken < count
                && open.room >= memory
                && open.time + time * open.slowness <= target
            {
                open.time += time * open.slowness;
                open.room -= memory;
                num_taken += 1;
            }
            num_placed += num_taken;
            let group = &mut draft.groups[open.group as usize];
            group.time = open.time;
            group.memory = group.seat.budget - open.room;
            draft.placed.push(Placed {
                class,
                group: open.group,
                count: num_taken,
            });
            let is_full = open.room < self.least_memory[shape as usize]
                || open.time + self.least_time[shape as usize] * open.slowness > target;
            if is_full {
                pool.open.swap_remove(position);
            }
        }
        num_placed
    }

    /// Opens a group of exactly this shape that one sequence of `class` fits.
    fn open(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        (micro_batch, target, shape): (u32, f64, u32),
        class: u32,
    ) -> Option<Open> {
        let instance = self.instance;
        let wanted = &instance.shapes[shape as usize];
        let free = &draft.free[micro_batch as usize];
        if pool.is_closed || free.num_free() < wanted.degree {
            return None;
        }
        let memory = instance.memory(shape as usize, class as usize);
        let seat = free.find(&instance.devices, wanted.degree, memory)?;
        if seat.span != wanted.span {
            // Devices that no node has left together none will have later.
            pool.is_closed = wanted.span == Span::OneNode && instance.devices.are_equal();
            return None;
        }
        let slowness = seat.slowness;
        if instance.time(shape as usize, class as usize) * slowness > target {
            return None;
        }
        Some(Open {
            time: 0.0,
            room: seat.budget,
            slowness,
            group: draft.add_group(micro_batch, shape, seat),
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

impl Pool {
    fn empty(&mut self) {
        self.open.clear();
        (self.cursor, self.most_room, self.least_time) = (0, 0, 0.0);
        self.is_closed = false;
    }

    /// Adds an empty group; returns its position.
    fn push(&mut self, open: Open) -> usize {
        self.most_room = self.most_room.max(open.room);
        self.least_time = 0.0;
        self.open.push(open);
        self.open.len() - 1
    }

    /// The position of the group that has the least time left after taking one more sequence.
    fn best_fit(
        &mut self,
        time: f64,
        memory: u64,
        target: f64,
        equal_speeds: bool,
    ) -> Option<usize> {
        let too_slow = |open: &Open| self.least_time + time * open.slowness > target;
        if memory > self.most_room || equal_speeds && self.open.first().is_none_or(too_slow) {
            return None;
        }
        for _ in 0..NUM_WINDOWS {
            let window = self.window();
            let (mut most_room, mut least_time) = (0, f64::INFINITY);
            let mut best = None;
            let mut latest = -1.0;
            for (position, open) in self.open[window.clone()].iter().enumerate() {
                most_room = most_room.max(open.room);
                least_time = open.time.min(least_time);
                if open.room >= memory
                    && open.time > latest
                    && open.time + time * open.slowness <= target
                {
                    latest = open.time;
                    best = Some(window.start + position);
                }
            }
            if window.len() == self.open.len() {
                (self.most_room, self.least_time) = (most_room, least_time);
                return best;
            }
            if best.is_some() {
                return best;
            }
            self.cursor = window.start;
        }
        None
    }

    /// The groups to look at next: the latest first, since they are the emptiest.
    fn window(&self) -> std::ops::Range<usize> {
        let end = if self.open.len() <= WINDOW || self.cursor == 0 {
            self.open.len()
        } else {
            self.cursor.min(self.open.len())
        };
        end.saturating_sub(WINDOW)..end
    }
}
