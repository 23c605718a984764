//! The constructive half of the adaptive planner: from makespans to aim at to a draft.

use crate::draft::Draft;
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
    /// Whether all its groups are equally fast.
    equal_speeds: bool,
}

/// How many groups of a pool are looked at in one go, and how often before it counts as full: groups of a pool
/// are much alike, so that a best fit among some hundred is as good as one among all.
const WINDOW: usize = 128;
const NUM_WINDOWS: usize = 4;

/// How often makespans are prolonged for what they did not hold.
const MAX_ATTEMPTS: usize = 2;

/// With more sequences left over than this, they get micro-batches of their own.
const MAX_SQUEEZED: usize = 24;

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
        }
    }

    /// A draft with these makespans where that is possible, and how many attempts it took.
    ///
    /// Where sequences are left over, the makespan at `absorber` is prolonged by their work and the filling begins
    /// anew, a few times; then what is left over gets micro-batches of its own.
    pub(crate) fn fill(&self, targets: &[f64], absorber: usize, tolerance: f64) -> (Draft, usize) {
        let mut targets = targets.to_vec();
        let everything = self.all_classes();
        for attempt in 1..=MAX_ATTEMPTS {
            let mut descending = targets.clone();
            descending.sort_by(|a, b| b.total_cmp(a));
            let mut draft = Draft::default();
            let left_over = self.fill_from(&mut draft, &descending, 0, &everything, tolerance);
            let count: usize = left_over.iter().map(|&(_, count)| count).sum();
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
        &self,
        mut draft: Draft,
        mut targets: Vec<f64>,
        mut left_over: Vec<(u32, usize)>,
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
    fn work(&self, classes: &[(u32, usize)]) -> f64 {
        let work = |&(class, count): &(u32, usize)| {
            let cheapest = self.orders[class as usize][0] as usize;
            self.instance.work(cheapest, class as usize) * count as f64
        };
        classes.iter().map(work).sum()
    }

    fn all_classes(&self) -> Vec<(u32, usize)> {
        (0..self.instance.num_classes() as u32)
            .rev()
            .map(|class| (class, self.instance.members(class as usize).len()))
            .collect()
    }

    /// A makespan that the given sequences can fill one micro-batch with.
    fn target_of(&self, classes: &[(u32, usize)]) -> f64 {
        let cheapest = |&(class, _): &(u32, usize)| {
            let shape = self.orders[class as usize][0] as usize;
            self.instance.time(shape, class as usize)
        };
        let longest = classes.iter().map(cheapest).fold(0.0, f64::max);
        longest.max(1.02 * self.work(classes) / self.instance.total_speed)
    }

    /// Fills the micro-batches from `from` on; returns what is left over.
    fn fill_from(
        &self,
        draft: &mut Draft,
        targets: &[f64],
        from: usize,
        classes: &[(u32, usize)],
        tolerance: f64,
    ) -> Vec<(u32, usize)> {
        for _ in from..targets.len() {
            draft.open_micro_batch(self.instance);
        }
        let num_shapes = self.instance.shapes.len();
        let empty = Pool {
            equal_speeds: self.instance.devices.are_equal(),
            ..Pool::default()
        };
        let mut pools = vec![empty; (targets.len() - from) * num_shapes];
        let mut left_over = Vec::new();
        for &(class, count) in classes {
            let mut left = count;
            for (pool, shape) in self.ways(&targets[from..], class, tolerance) {
                let micro_batch = (from + pool) as u32;
                let target = targets[from + pool];
                let pool = &mut pools[pool * num_shapes + shape as usize];
                while left > 0 && self.place(draft, pool, micro_batch, target, shape, class) {
                    left -= 1;
                }
                if left == 0 {
                    break;
                }
            }
            if left > 0 {
                left_over.push((class, left));
            }
        }
        left_over
    }

    /// The micro-batches and shapes that a sequence of `class` may go to, the preferred ones first: micro-batch by
    /// micro-batch as long as a shape costs at most `tolerance` times the cheapest, then shape by shape.
    fn ways(
        &self,
        targets: &[f64],
        class: u32,
        tolerance: f64,
    ) -> impl Iterator<Item = (usize, u32)> + '_ {
        let order = &self.orders[class as usize];
        let within = tolerance * self.instance.work(order[0] as usize, class as usize);
        let work = |&shape: &u32| self.instance.work(shape as usize, class as usize);
        let (tolerated, others) =
            order.split_at(order.partition_point(|shape| work(shape) <= within));
        let longest = targets.iter().map(|target| target * self.fastest);
        let makespans: Vec<f64> = longest.collect();
        let num = makespans.len();
        let first =
            (0..num).flat_map(move |pool| tolerated.iter().map(move |&shape| (pool, shape)));
        let then = others
            .iter()
            .flat_map(move |&shape| (0..num).map(move |pool| (pool, shape)));
        first.chain(then).filter(move |&(pool, shape)| {
            self.instance.time(shape as usize, class as usize) <= makespans[pool]
        })
    }

    /// Puts one sequence into a group of the pool or a new one; `false` where neither takes it.
    fn place(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        micro_batch: u32,
        target: f64,
        shape: u32,
        class: u32,
    ) -> bool {
        let instance = self.instance;
        let time = instance.time(shape as usize, class as usize);
        let memory = instance.memory(shape as usize, class as usize);
        let position = match pool.best_fit(time, memory, target) {
            Some(position) => position,
            None => match self.open(draft, micro_batch, target, shape, class) {
                Some(group) => {
                    let seat = &draft.groups[group as usize].seat;
                    pool.most_room = pool.most_room.max(seat.budget);
                    pool.least_time = 0.0;
                    pool.open.push(Open {
                        time: 0.0,
                        room: seat.budget,
                        slowness: seat.slowness,
                        group,
                    });
                    pool.open.len() - 1
                }
                None => return false,
            },
        };
        let open = &mut pool.open[position];
        draft.place(instance, class as usize, open.group);
        open.time = draft.groups[open.group as usize].time;
        open.room -= memory;
        let full = open.room < self.least_memory[shape as usize]
            || open.time + self.least_time[shape as usize] * open.slowness > target;
        if full {
            pool.open.swap_remove(position);
        }
        true
    }

    /// Opens a group of exactly this shape that one sequence of `class` fits.
    fn open(
        &self,
        draft: &mut Draft,
        micro_batch: u32,
        target: f64,
        shape: u32,
        class: u32,
    ) -> Option<u32> {
        let instance = self.instance;
        let wanted = &instance.shapes[shape as usize];
        let free = &draft.free[micro_batch as usize];
        if free.num_free() < wanted.degree {
            return None;
        }
        let memory = instance.memory(shape as usize, class as usize);
        let seat = free.find(&instance.devices, wanted.degree, memory)?;
        let time = instance.time(shape as usize, class as usize) * seat.slowness;
        if seat.span != wanted.span || time > target {
            return None;
        }
        Some(draft.add_group(micro_batch, shape, seat))
    }

    /// Adds the sequences where they prolong the step least; `false` where memory does not allow it, or
    /// micro-batches of their own would take less.
    fn squeeze_in(&self, draft: &mut Draft, classes: &[(u32, usize)]) -> bool {
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
    /// The position of the group that has the least time left after taking one more sequence.
    fn best_fit(&mut self, time: f64, memory: u64, target: f64) -> Option<usize> {
        let too_slow = |open: &Open| self.least_time + time * open.slowness > target;
        if memory > self.most_room || self.equal_speeds && self.open.first().is_none_or(too_slow) {
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
