//! The Lagrangian relaxation that bounds a partly decided plan from below.
//!
//! Some of the longest sequences are decided: they sit in *committed* groups. The others may be split over
//! places: the committed groups, the devices that are free beside them, and the micro-batches not opened yet.
//! Each place has device-seconds and device-memory to give; dual prices `y` and `z` of both turn the limits into costs:
//!
//! ```text
//! bound(y, z)   = sum over sequences of the least price of any place and shape
//!               + what the committed sequences pay for their time
//!               - memory given, at its price
//!               + sum over micro-batches of min over T of T (1 - devices x time price)
//! ```
//!
//! For any prices that are not negative this is at most the sum of makespans of any plan that agrees with
//! the decisions: weak duality, as a plan pays no more than the limits it keeps are worth. [`Relaxation::ascend`] looks for
//! good ones.

use super::cutting_planes::CuttingPlanes;
use super::decisions::{Decisions, DualPrices, project};
use super::items::{Items, MAX_DEPTH};
use super::usable_devices::usable_devices;
use crate::deadline::Deadline;
use crate::instance::Instance;

/// Prices go this part of the way from the best so far to where all planes are highest, which is far off while there are few.
const STEP: f64 = 0.4;

/// Prices are good enough once their bound is within this part of the limit of the highest one there is.
const CONVERGED: f64 = 1e-3;

/// Bounds that are within this part of the limit may reach it.
const CLOSE: f64 = 1e-6;

/// Relaxations of one instance.
pub(crate) struct Relaxation<'a, 'p> {
    pub(crate) instance: &'a Instance<'p>,
    /// Every length for itself: what bounds are evaluated on.
    pub(super) exact: Items,
    /// Similar lengths merged: what prices are looked for with.
    pub(super) coarse: Items,
    /// Positions of all shapes, and of those that prices are looked for with.
    pub(super) all_shapes: Vec<usize>,
    pub(super) searched_shapes: Vec<usize>,
    /// For every number of devices how many of them groups can use.
    usable: Vec<u32>,
    /// The speed that times are for: that of equal devices, or 1.
    pub(super) speed: f64,
    /// Equal devices that groups can use, or the speeds of unequal ones together.
    pub(super) num_devices: f64,
    /// Budgets of the devices that groups can use, in largest budgets.
    pub(super) total_memory: f64,
    pub(super) fastest: f64,
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

/// A bound and the part of it that undecided sequences pay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) makespans: f64,
    pub(crate) undecided: f64,
    /// The price that the longest undecided sequence pays.
    pub(crate) longest: f64,
}

/// The relaxation at some prices.
struct Evaluation {
    bound: Bound,
    /// How much more than it has each place is asked for: device-seconds and budgets.
    time_excess: Vec<f64>,
    memory_excess: Vec<f64>,
}

impl<'a, 'p> Relaxation<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>) -> Self {
        // Equal devices are counted, with times at their speed; unequal ones are the speed they have together, with
        // nominal times.
        let devices = instance.problem.cluster.devices();
        let usable = usable_devices(instance);
        let num_usable = usable[devices.len()] as usize;
        let (speed, num_devices, fastest) = if instance.devices.are_equal() {
            (devices[0].speed().get(), num_usable as f64, 1.0)
        } else {
            let mut speeds: Vec<f64> = devices.iter().map(|device| device.speed().get()).collect();
            speeds.sort_unstable_by(|a, b| b.total_cmp(a));
            (1.0, speeds[..num_usable].iter().sum(), speeds[0])
        };
        let exact = Items::of(instance, 1.0, speed);
        let mut ratio = 1.05;
        let mut coarse = Items::of(instance, ratio, speed);
        while coarse.counts.len() > 40 + MAX_DEPTH {
            ratio = ratio * 1.4 - 0.4;
            coarse = Items::of(instance, ratio * 1.02, speed);
        }
        Relaxation {
            instance,
            exact,
            coarse,
            all_shapes: (0..instance.shapes.len()).collect(),
            searched_shapes: searched_shapes(instance),
            usable,
            speed,
            num_devices,
            total_memory: instance.total_share(num_usable),
            fastest,
        }
    }

    /// The devices of a group of a shape.
    pub(super) fn degree(&self, shape: usize) -> f64 {
        f64::from(self.instance.shapes[shape].degree)
    }

    /// The devices that more groups of a micro-batch can use where some have `taken` equal ones.
    pub(super) fn usable_beside(&self, taken: u32) -> f64 {
        f64::from(self.usable[self.usable.len() - 1 - taken as usize])
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
    pub(crate) fn bound(&self, decisions: &Decisions, prices: &DualPrices, limit: f64) -> Bound {
        let shapes = &self.all_shapes;
        self.evaluate(&self.exact, shapes, decisions, prices, limit)
            .bound
    }

    /// A bound at little cost for decisions that go one sequence further than those which `before` is for, at the same
    /// prices: what is left undecided has fewer choices than it had, so that it pays no less.
    pub(crate) fn bound_after(
        &self,
        before: Bound,
        decisions: &Decisions,
        prices: &DualPrices,
        limit: f64,
    ) -> f64 {
        let devices = decisions.devices(self);
        let undecided = before.undecided - before.longest;
        undecided + self.decided(decisions, prices, &devices, limit, |_, _| ())
    }

    /// What the bound owes to all but the undecided sequences. Tells how many device-seconds each place has and gives away
    /// to decided ones; the rest it offers, as a negative excess.
    fn decided(
        &self,
        decisions: &Decisions,
        prices: &DualPrices,
        devices: &[f64],
        limit: f64,
        mut add_time_excess: impl FnMut(usize, f64),
    ) -> f64 {
        let mut bound = 0.0;
        for (place, group) in decisions.groups.iter().enumerate() {
            let time = devices[place] * group.time;
            add_time_excess(place, time);
            bound += time * prices.time[place];
        }
        for place in 0..devices.len() {
            bound -= prices.memory[place] * decisions.memory_of(self, place, devices);
        }
        let least = decisions.least_makespans(self);
        let slack = limit - least.iter().sum::<f64>();
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
                add_time_excess(place, -devices[place] * makespan);
            }
        }
        bound
    }

    /// DualPrices that a partly decided plan starts with: time costs the same everywhere, memory nothing.
    pub(crate) fn first_prices(&self) -> DualPrices {
        DualPrices {
            time: vec![1.0 / self.num_devices],
            memory: vec![0.0],
        }
    }

    /// Improves prices by cutting planes, until the bound reaches `limit` or is near the highest one there is.
    pub(crate) fn ascend(
        &self,
        decisions: &Decisions,
        prices: &mut DualPrices,
        limit: f64,
        num_steps: usize,
        deadline: Deadline,
    ) {
        let devices = decisions.devices(self);
        let mut planes = CuttingPlanes::new(&devices, limit, !decisions.or_more);
        let mut best = (f64::NEG_INFINITY, prices.clone());
        let mut at = prices.clone();
        let mut may_reach_limit = false;
        for _ in 0..num_steps {
            if deadline.has_passed() {
                break;
            }
            let evaluation = self.look(decisions, &at, limit);
            let bound = evaluation.bound.makespans;
            if bound > best.0 {
                best = (bound, at.clone());
            }
            if best.0 >= limit {
                break;
            }
            let (time, memory) = (&evaluation.time_excess, &evaluation.memory_excess);
            planes.add(&at, bound, time, memory);
            let (highest, most) = planes.highest();
            let is_near = most <= best.0 + CONVERGED * limit;
            // Sums err in their last digits, and a plan may take just as long as the one that is known.
            may_reach_limit = most >= limit * (1.0 - CLOSE);
            if is_near && !may_reach_limit {
                break;
            }
            // Where a set of plans may still be closed, the last part counts, and planes meet there.
            at = best.1.towards(&highest, if is_near { 1.0 } else { STEP });
        }
        *prices = best.1;
        if best.0 < limit && may_reach_limit {
            self.step_towards(decisions, prices, limit, num_steps, deadline);
        }
    }

    /// Improves prices by projected subgradient steps towards `limit`: where it can be reached at all, they may get there by
    /// prices beyond those that planes reckon with.
    fn step_towards(
        &self,
        decisions: &Decisions,
        prices: &mut DualPrices,
        limit: f64,
        num_steps: usize,
        deadline: Deadline,
    ) {
        let mut best = prices.clone();
        let mut best_bound = f64::NEG_INFINITY;
        let mut damping = 1.0;
        let mut stuck = 0;
        let devices = decisions.devices(self);
        // One whole budget on all devices is worth about the time of a micro-batch.
        let scale = limit / decisions.num_micro_batches as f64;
        for _ in 0..num_steps {
            if deadline.has_passed() {
                break;
            }
            let evaluation = self.look(decisions, prices, limit);
            if evaluation.bound.makespans > best_bound {
                stuck = if evaluation.bound.makespans > best_bound + 1e-4 * limit {
                    0
                } else {
                    stuck + 1
                };
                best_bound = evaluation.bound.makespans;
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
            let step = damping * (limit - evaluation.bound.makespans).max(1e-3 * limit) / norm;
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

    /// The relaxation by which prices are looked for: near the one that is a bound, at less cost.
    fn look(&self, decisions: &Decisions, prices: &DualPrices, limit: f64) -> Evaluation {
        let (items, shapes) = (&self.coarse, &self.searched_shapes);
        self.evaluate(items, shapes, decisions, prices, limit)
    }

    fn evaluate(
        &self,
        items: &Items,
        shapes: &[usize],
        decisions: &Decisions,
        prices: &DualPrices,
        limit: f64,
    ) -> Evaluation {
        let num_items = items.counts.len() - decisions.num_decided;
        let devices = decisions.devices(self);
        let least = decisions.least_makespans(self);
        let slack = limit - least.iter().sum::<f64>();
        let choices = self.choices(
            items, shapes, decisions, prices, &devices, &least, slack, num_items,
        );
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
        let mut time_excess = vec![0.0; devices.len()];
        let mut memory_excess: Vec<f64> = (0..devices.len())
            .map(|place| -decisions.memory_of(self, place, &devices))
            .collect();
        let mut undecided = 0.0;
        for item in 0..num_items {
            let count = items.counts[item];
            if cheapest[item] == f64::INFINITY {
                // No place is left within the limit: these decisions lead to no better plan.
                undecided = f64::INFINITY;
                break;
            }
            undecided += count * cheapest[item];
            let choice = &choices[chosen[item] as usize];
            let degree = self.degree(choice.shape);
            time_excess[choice.place] += count * degree * items.time[choice.shape][item];
            memory_excess[choice.place] += count * degree * items.memory[choice.shape][item];
        }
        let decided = self.decided(decisions, prices, &devices, limit, |place, excess| {
            time_excess[place] += excess;
        });
        let bound = Bound {
            makespans: undecided + decided,
            undecided,
            longest: cheapest.last().copied().unwrap_or(0.0),
        };
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
        shapes: &[usize],
        decisions: &Decisions,
        prices: &DualPrices,
        devices: &[f64],
        least: &[f64],
        slack: f64,
        num_items: usize,
    ) -> Vec<Choice> {
        let mut choices = Vec::with_capacity(devices.len() * shapes.len());
        let mut choice = |place: usize, shape: usize, makespan: f64| {
            let fitting = items.num_fitting[shape].min(num_items);
            let longest = makespan * self.fastest * (1.0 + 1e-9);
            let in_time = items.time[shape][..fitting].partition_point(|&time| time <= longest);
            let degree = self.degree(shape);
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
            for &shape in shapes {
                let degree = self.degree(shape);
                // The speeds of unequal devices don't say how many there are.
                let opened = micro_batch < decisions.num_opened;
                if !opened || degree <= devices[place] + 1e-9 {
                    choice(place, shape, makespan + slack);
                }
            }
        }
        choices
    }
}

/// Those of the shortlists, where there are some, else all.
fn searched_shapes(instance: &Instance<'_>) -> Vec<usize> {
    if instance.shortlists.is_empty() {
        return (0..instance.shapes.len()).collect();
    }
    let shortlists = instance.shortlists.iter();
    let mut shapes: Vec<usize> = shortlists.flat_map(|list| list.shapes.clone()).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

#[cfg(test)]
pub(super) mod tests {
    use lengthwise_core::{
        Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, Strategy,
        StrategyKind, StrategySpace,
    };
    use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};

    use super::*;
    use crate::Problem;

    /// The relaxation of sequences on two devices of 1 MB with groups of one, whose activations cost so many seconds and bytes
    /// for each token.
    pub(in crate::bound) fn with_relaxation(
        lens: &[u64],
        costs: &[(Activations, f64, f64)],
        check: impl FnOnce(&Relaxation<'_, '_>),
    ) {
        let batch = GlobalBatch::from_lens(lens.to_vec()).unwrap();
        let device = Device::new(Bytes(1_000_000), Speed::NOMINAL);
        let cluster = Cluster::uniform(1, 2, device).unwrap();
        let mut fitted = FittedCosts::default();
        for &(activations, linear_s_per_token, bytes) in costs {
            let costs = KindCosts {
                linear_s_per_token,
                memory_bytes_per_token: vec![(Degree::ONE, bytes)],
                ..KindCosts::default()
            };
            let kind = StrategyKind::ulysses(activations);
            fitted.kinds.insert(kind, costs);
        }
        let cost = FittedModel::new(fitted).unwrap();
        let strategies = costs.iter();
        let strategies = strategies.map(|&(kept, ..)| Strategy::ulysses(Degree::ONE, kept));
        let space = StrategySpace::new(strategies).unwrap();
        let instance = Instance::new(Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules: PlanRules::default(),
        })
        .unwrap();
        check(&Relaxation::new(&instance));
    }

    /// At any, and not only at those that ascents lead to, which pay no micro-batch more than its makespan.
    #[test]
    fn no_price_bounds_a_micro_batch_above_its_least_makespan() {
        let check = |relaxation: &Relaxation<'_, '_>| {
            let decisions = Decisions {
                num_micro_batches: 1,
                ..Decisions::default()
            };
            // One device takes the longest sequence, the other one the other two.
            let least = 3.0;
            let mut highest = 0.0f64;
            for price in (0..40).map(|tenths| f64::from(tenths) / 20.0) {
                let prices = DualPrices {
                    time: vec![price],
                    memory: vec![0.0],
                };
                for limit in [3.0, 3.5, 6.0] {
                    let bound = relaxation.bound(&decisions, &prices, limit).makespans;
                    assert!(bound <= least + 1e-9, "{bound} at {price} below {limit}");
                    highest = highest.max(bound);
                }
            }
            assert!(highest >= least - 1e-9, "{highest}");
        };
        with_relaxation(
            &[1000, 2000, 3000],
            &[(Activations::Recompute, 1e-3, 1.0)],
            check,
        );
    }
}
