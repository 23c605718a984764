//! The Lagrangian relaxation that bounds a partly decided plan from below.
//!
//! Some of the longest sequences are decided: they sit in *committed* groups. The others may be split over
//! places: the committed groups, the devices that are free beside them, and the micro-batches not opened yet.
//! Each place has device-seconds and device-memory to give; prices for both turn the limits into costs:
//!
//! ```text
//! bound(prices) = sum over sequences of the least price of any place and shape
//!               + what the committed sequences pay for their time
//!               - memory given, at its price
//!               + sum over micro-batches of min over T of T (1 - devices x time price)
//! ```
//!
//! For any prices that are not negative this is at most the sum of makespans of any plan that agrees with
//! the decisions: a plan pays no more than the limits it keeps are worth. [`Relaxation::ascend`] looks for good ones.

use crate::instance::Instance;

/// How many of the longest sequences stand for themselves, so that they can be decided one by one.
pub(crate) const MAX_DEPTH: usize = 24;

/// The sequences of an instance by increasing length, some of them merged.
pub(crate) struct Items {
    /// How many sequences each stands for.
    counts: Vec<f64>,
    /// Seconds of one of them in each shape, at the speed of equal devices: `[shape][item]`.
    time: Vec<Vec<f64>>,
    /// The part of a device's budget that it takes: `[shape][item]`.
    memory: Vec<Vec<f64>>,
    /// How many of the items fit groups of each shape.
    num_fitting: Vec<usize>,
}

/// Decided groups and free places; what [`Relaxation`] bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    /// Micro-batches of the plan.
    pub(crate) num_micro_batches: usize,
    /// Whether it may have more than these, with memory to spare.
    pub(crate) or_more: bool,
    /// How many micro-batches have committed groups.
    pub(crate) num_opened: usize,
    /// How many of the longest sequences are decided.
    pub(crate) num_decided: usize,
    pub(crate) groups: Vec<Committed>,
}

/// A group that holds one decided sequence or more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) micro_batch: usize,
    pub(crate) shape: usize,
    /// Seconds of its decided sequences.
    pub(crate) time: f64,
    /// The part of its devices' budget that they take.
    pub(crate) memory: f64,
}

/// What a place charges: for each device-second, and for each device's whole budget. Places are the committed groups,
/// then the free devices of each opened micro-batch, then the micro-batches that are not opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices {
    time: Vec<f64>,
    memory: Vec<f64>,
}

/// Relaxations of one instance.
pub(crate) struct Relaxation<'a, 'p> {
    pub(crate) instance: &'a Instance<'p>,
    /// Every length for itself: what bounds are evaluated on.
    exact: Items,
    /// Similar lengths merged: what prices are looked for with.
    coarse: Items,
    /// Equal devices, or the speeds of unequal ones together.
    num_devices: f64,
    /// Budgets of all devices, in largest budgets.
    total_memory: f64,
    fastest: f64,
}

/// One way to place a sequence.
struct Choice {
    place: usize,
    shape: usize,
    /// How many of the items may take it.
    num_items: usize,
    time_price: f64,
    memory_price: f64,
}

/// The relaxation at some prices.
struct Evaluation {
    bound: f64,
    /// How much more than it has each place is asked for: device-seconds and budgets.
    time_excess: Vec<f64>,
    memory_excess: Vec<f64>,
}

impl Items {
    fn of(instance: &Instance<'_>, ratio: f64, speed: f64) -> Self {
        let unit = instance.budget_unit();
        let num_shapes = instance.shapes.len();
        let mut items = Items {
            counts: Vec::new(),
            time: vec![Vec::new(); num_shapes],
            memory: vec![Vec::new(); num_shapes],
            num_fitting: Vec::new(),
        };
        let singles_from = instance.num_sequences().saturating_sub(MAX_DEPTH);
        let (mut position, mut first_len, mut pending) = (0, 0.0, 0.0);
        let mut sums = vec![(0.0, 0.0); num_shapes];
        let flush = |items: &mut Items, sums: &mut Vec<(f64, f64)>, pending: &mut f64| {
            if *pending > 0.0 {
                items.counts.push(*pending);
                for (shape, sum) in sums.iter_mut().enumerate() {
                    items.time[shape].push(sum.0 / *pending);
                    items.memory[shape].push(sum.1 / *pending);
                    *sum = (0.0, 0.0);
                }
                *pending = 0.0;
            }
        };
        for class in 0..instance.num_classes() {
            let len = instance.class_lens[class].as_f64();
            let mut left = instance.members(class).len();
            if len > first_len * ratio {
                flush(&mut items, &mut sums, &mut pending);
                first_len = len;
            }
            while left > 0 {
                let taken = if position < singles_from {
                    left.min(singles_from - position)
                } else {
                    1
                };
                for (shape, sum) in sums.iter_mut().enumerate() {
                    sum.0 += instance.time(shape, class) / speed * taken as f64;
                    sum.1 += instance.memory(shape, class) as f64 / unit * taken as f64;
                }
                pending += taken as f64;
                position += taken;
                left -= taken;
                if position >= singles_from {
                    flush(&mut items, &mut sums, &mut pending);
                }
            }
        }
        flush(&mut items, &mut sums, &mut pending);
        let fitting = |shape: usize| {
            let budget = instance.shapes[shape].best_budget as f64 / unit * (1.0 + 1e-9);
            items.memory[shape].partition_point(|&memory| memory <= budget)
        };
        items.num_fitting = (0..num_shapes).map(fitting).collect();
        items
    }
}

impl<'a, 'p> Relaxation<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>) -> Self {
        // Equal devices are counted, with times at their speed; unequal ones are the speed they have together, with
        // nominal times.
        let devices = instance.problem.cluster.devices();
        let (speed, num_devices, fastest) = if instance.devices.are_equal() {
            (devices[0].speed().get(), devices.len() as f64, 1.0)
        } else {
            let speeds = devices.iter().map(|device| device.speed().get());
            (1.0, instance.total_speed, speeds.fold(0.0, f64::max))
        };
        let exact = Items::of(instance, 1.0, speed);
        let mut ratio = 1.05;
        let mut coarse = Items::of(instance, ratio, speed);
        while coarse.counts.len() > 72 + MAX_DEPTH {
            ratio = ratio * 1.4 - 0.4;
            coarse = Items::of(instance, ratio * 1.02, speed);
        }
        Relaxation {
            instance,
            exact,
            coarse,
            num_devices,
            total_memory: instance.total_budget() / instance.budget_unit(),
            fastest,
        }
    }

    /// Seconds that the sequence at `depth`, counted from the longest, takes in `shape`; `None` where it does not fit.
    pub(crate) fn decided_time(&self, depth: usize, shape: usize) -> Option<f64> {
        let item = self.exact.counts.len() - 1 - depth;
        (item < self.exact.num_fitting[shape]).then(|| self.exact.time[shape][item])
    }

    /// The part of a device's budget that it takes.
    pub(crate) fn decided_memory(&self, depth: usize, shape: usize) -> f64 {
        self.exact.memory[shape][self.exact.counts.len() - 1 - depth]
    }

    /// The least sum of makespans that agrees with the decisions by `prices`, given that it is below `limit`.
    pub(crate) fn bound(&self, decisions: &Decisions, prices: &Prices, limit: f64) -> f64 {
        self.evaluate(&self.exact, decisions, prices, limit).bound
    }

    /// Prices that a partly decided plan starts with: time costs the same everywhere, memory nothing.
    pub(crate) fn first_prices(&self) -> Prices {
        Prices {
            time: vec![1.0 / self.num_devices],
            memory: vec![0.0],
        }
    }

    /// Improves prices by projected subgradient steps towards `limit`.
    pub(crate) fn ascend(
        &self,
        decisions: &Decisions,
        prices: &mut Prices,
        limit: f64,
        num_steps: usize,
    ) {
        let mut best = prices.clone();
        let mut best_bound = f64::NEG_INFINITY;
        let mut damping = 1.0;
        let mut stuck = 0;
        let devices = decisions.devices(self);
        // One whole budget on all devices is worth about the time of a micro-batch.
        let scale = limit / decisions.num_micro_batches as f64;
        for _ in 0..num_steps {
            let evaluation = self.evaluate(&self.coarse, decisions, prices, limit);
            if evaluation.bound > best_bound {
                stuck = if evaluation.bound > best_bound + 1e-4 * limit {
                    0
                } else {
                    stuck + 1
                };
                best_bound = evaluation.bound;
                best.clone_from(prices);
            } else {
                stuck += 1;
            }
            if stuck > 4 {
                (damping, stuck) = (damping * 0.5, 0);
                prices.clone_from(&best);
                if damping < 0.02 {
                    break;
                }
            }
            let time = evaluation.time_excess.iter();
            let memory = evaluation.memory_excess.iter().map(|excess| excess * scale);
            let norm: f64 = time
                .copied()
                .chain(memory)
                .map(|excess| excess * excess)
                .sum();
            if best_bound >= limit || norm <= 1e-18 * limit * limit {
                break;
            }
            let step = damping * (limit - evaluation.bound).max(1e-3 * limit) / norm;
            for place in 0..prices.time.len() {
                let time = &mut prices.time[place];
                *time = (*time + step * evaluation.time_excess[place]).max(0.0);
                let memory = &mut prices.memory[place];
                *memory =
                    (*memory + step * scale * scale * evaluation.memory_excess[place]).max(0.0);
            }
            if decisions.or_more {
                prices.memory.fill(0.0);
            }
            project(decisions, &devices, prices);
        }
        *prices = best;
    }

    fn evaluate(
        &self,
        items: &Items,
        decisions: &Decisions,
        prices: &Prices,
        limit: f64,
    ) -> Evaluation {
        let num_items = items.counts.len() - decisions.num_decided;
        let devices = decisions.devices(self);
        let least = decisions.least_makespans(self);
        let slack = limit - least.iter().sum::<f64>();
        let choices = self.choices(items, decisions, prices, &devices, &least, slack, num_items);
        let mut cheapest = vec![f64::INFINITY; num_items];
        let mut chosen = vec![0u32; num_items];
        for (index, choice) in choices.iter().enumerate() {
            let time = &items.time[choice.shape][..choice.num_items];
            let memory = &items.memory[choice.shape][..choice.num_items];
            let (cheapest, chosen) = (
                &mut cheapest[..choice.num_items],
                &mut chosen[..choice.num_items],
            );
            for item in 0..choice.num_items {
                let price = choice.time_price * time[item] + choice.memory_price * memory[item];
                if price < cheapest[item] {
                    cheapest[item] = price;
                    chosen[item] = index as u32;
                }
            }
        }
        let mut bound = 0.0;
        let mut time_excess = vec![0.0; devices.len()];
        let mut memory_excess: Vec<f64> = (0..devices.len())
            .map(|place| -decisions.memory_of(self, place, &devices))
            .collect();
        for item in 0..num_items {
            let count = items.counts[item];
            if cheapest[item] == f64::INFINITY {
                // No place is left within the limit: these decisions lead to no better plan.
                bound = f64::INFINITY;
                break;
            }
            bound += count * cheapest[item];
            let choice = &choices[chosen[item] as usize];
            let degree = f64::from(self.instance.shapes[choice.shape].degree);
            time_excess[choice.place] += count * degree * items.time[choice.shape][item];
            memory_excess[choice.place] += count * degree * items.memory[choice.shape][item];
        }
        for (place, group) in decisions.groups.iter().enumerate() {
            let time = devices[place] * group.time;
            time_excess[place] += time;
            bound += time * prices.time[place];
        }
        for place in 0..devices.len() {
            bound -= prices.memory[place] * decisions.memory_of(self, place, &devices);
        }
        for (micro_batch, &least) in least.iter().enumerate() {
            let places = decisions.places_of(micro_batch);
            let paid: f64 = places
                .iter()
                .map(|&place| devices[place] * prices.time[place])
                .sum();
            let makespan = if paid <= 1.0 {
                least
            } else {
                least + slack.max(0.0)
            };
            bound += makespan * (1.0 - paid);
            for place in places {
                time_excess[place] -= devices[place] * makespan;
            }
        }
        Evaluation {
            bound,
            time_excess,
            memory_excess,
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of an evaluation that choices depend on"
    )]
    fn choices(
        &self,
        items: &Items,
        decisions: &Decisions,
        prices: &Prices,
        devices: &[f64],
        least: &[f64],
        slack: f64,
        num_items: usize,
    ) -> Vec<Choice> {
        let mut choices = Vec::with_capacity(devices.len() * self.instance.shapes.len());
        let mut choice = |place: usize, shape: usize, makespan: f64| {
            let fitting = items.num_fitting[shape].min(num_items);
            let longest = makespan * self.fastest * (1.0 + 1e-9);
            let in_time = items.time[shape][..fitting].partition_point(|&time| time <= longest);
            let degree = f64::from(self.instance.shapes[shape].degree);
            choices.push(Choice {
                place,
                shape,
                num_items: in_time,
                time_price: prices.time[place] * degree,
                memory_price: prices.memory[place] * degree,
            });
        };
        for (place, group) in decisions.groups.iter().enumerate() {
            choice(
                place,
                group.shape,
                least[group.micro_batch] + slack - group.time,
            );
        }
        for (micro_batch, &makespan) in least.iter().enumerate() {
            let place = decisions.groups.len() + micro_batch;
            for (shape, figures) in self.instance.shapes.iter().enumerate() {
                // The speeds of unequal devices don't say how many there are.
                let opened = micro_batch < decisions.num_opened;
                if !opened || f64::from(figures.degree) <= devices[place] + 1e-9 {
                    choice(place, shape, makespan + slack);
                }
            }
        }
        choices
    }
}

impl Decisions {
    /// The devices of every place.
    fn devices(&self, relaxation: &Relaxation<'_, '_>) -> Vec<f64> {
        let degree = |group: &Committed| f64::from(relaxation.instance.shapes[group.shape].degree);
        let mut devices: Vec<f64> = self.groups.iter().map(degree).collect();
        for micro_batch in 0..self.num_opened {
            let inside = self
                .groups
                .iter()
                .filter(|group| group.micro_batch == micro_batch);
            devices.push(relaxation.num_devices - inside.map(degree).sum::<f64>());
        }
        if self.num_opened < self.num_micro_batches {
            devices.push(relaxation.num_devices);
        }
        devices
    }

    /// The least makespan of each opened micro-batch, then that of all the others together.
    fn least_makespans(&self, relaxation: &Relaxation<'_, '_>) -> Vec<f64> {
        let mut least = vec![0.0f64; self.num_opened];
        for group in &self.groups {
            least[group.micro_batch] = least[group.micro_batch].max(group.time);
        }
        if self.num_opened < self.num_micro_batches {
            let nothing_decided = self.num_opened == 0;
            least.push(if nothing_decided {
                relaxation.instance.least_makespan()
            } else {
                0.0
            });
        }
        least
    }

    /// The places of a micro-batch, or of those that are not opened.
    fn places_of(&self, micro_batch: usize) -> Vec<usize> {
        let groups =
            (0..self.groups.len()).filter(|&group| self.groups[group].micro_batch == micro_batch);
        groups.chain([self.groups.len() + micro_batch]).collect()
    }

    /// The memory a place has left, in budgets.
    fn memory_of(&self, relaxation: &Relaxation<'_, '_>, place: usize, devices: &[f64]) -> f64 {
        if let Some(group) = self.groups.get(place) {
            return devices[place] * (1.0 - group.memory);
        }
        if place - self.groups.len() < self.num_opened {
            return devices[place];
        }
        (self.num_micro_batches - self.num_opened) as f64 * relaxation.total_memory
    }

    /// These decisions with one more sequence in a committed group.
    pub(crate) fn with_sequence(&self, group: usize, time: f64, memory: f64) -> Self {
        let mut decisions = self.clone();
        decisions.num_decided += 1;
        decisions.groups[group].time += time;
        decisions.groups[group].memory += memory;
        decisions
    }

    /// These decisions with one more group, for one more sequence.
    pub(crate) fn with_group(&self, group: Committed) -> Self {
        let mut decisions = self.clone();
        decisions.num_decided += 1;
        decisions.num_opened = decisions.num_opened.max(group.micro_batch + 1);
        decisions.groups.push(group);
        decisions
    }
}

impl Prices {
    /// Prices for decisions that open the group at place `group` in `micro_batch`: those of where its devices were.
    pub(crate) fn with_group(
        &self,
        before: &Decisions,
        micro_batch: usize,
        all_opened: bool,
    ) -> Self {
        let mut prices = self.clone();
        let num_groups = before.groups.len();
        let from = num_groups + micro_batch;
        let (time, memory) = (self.time[from], self.memory[from]);
        if micro_batch == before.num_opened {
            // The newly opened micro-batch; the others stay behind it while there are any.
            prices.time.insert(from, time);
            prices.memory.insert(from, memory);
            if all_opened {
                prices.time.pop();
                prices.memory.pop();
            }
        }
        prices.time.insert(num_groups, time);
        prices.memory.insert(num_groups, memory);
        prices
    }
}

/// Lowers time prices until no micro-batch is paid more than its makespan, so that it need not be bounded above.
fn project(decisions: &Decisions, devices: &[f64], prices: &mut Prices) {
    let num_micro_batches = devices.len() - decisions.groups.len();
    for micro_batch in 0..num_micro_batches {
        let places = decisions.places_of(micro_batch);
        for _ in 0..3 {
            let paid: f64 = places
                .iter()
                .map(|&place| devices[place] * prices.time[place])
                .sum();
            let positive = places.iter().filter(|&&place| prices.time[place] > 0.0);
            let norm: f64 = positive.map(|&place| devices[place] * devices[place]).sum();
            if paid <= 1.0 || norm <= 0.0 {
                break;
            }
            for &place in &places {
                let price = &mut prices.time[place];
                *price = (*price - (paid - 1.0) * devices[place] / norm).max(0.0);
            }
        }
    }
}
