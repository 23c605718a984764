//! The Lagrangian bound of a leaf.
//!
//! A leaf says where the longest sequences go. What is left open is relaxed: the other sequences may be split over *places*,
//! which are the groups opened so far, the devices left in every micro-batch opened so far, and all micro-batches not opened
//! together. A place `i` has devices of speed `v_i` together and capacity `c_i`. Its groups share its micro-batch's makespan
//! `T_j(i)`, so that every plan that agrees with the decisions keeps, for each place,
//!
//! ```text
//! sum of d(p) w(p, s) over the sequences there  <=  v_i T_j(i)        dual price y_i >= 0
//! sum of d(p) c(p, s) over the sequences there  <=  c_i               dual price z_i >= 0
//! ```
//!
//! where `c(p, s)` is what a sequence takes of a device's memory (or tokens, or number of sequences). The plan's makespans
//! are then at least their sum *less what the two limits leave unused, at these prices*, and that is at least
//!
//! ```text
//!   sum over open sequences s of min over places i and shapes p of  d(p) (y_i w(p, s) + z_i c(p, s))
//! + sum over opened groups i of  y_i d(p_i) (seconds of its decided sequences)
//! - sum over places i of  z_i c_i
//! + sum over micro-batches j of  min over T of  T (1 - sum over its places i of y_i v_i)
//! ```
//!
//! whatever `y` and `z` are, as long as they are not negative: this is weak duality. Only plans that take less than `limit_s`
//! matter, as no plan that takes `limit_s` or more breaks a bound of `limit_s`. So makespans have a most, and what would take
//! longer is no choice.
//!
//! Rounding can't be turned into a bound either: the sum of so many terms may be wrong by that many units in the last place of
//! their magnitudes, which is taken off.

use crate::format::{Capacity, Leaf};
use crate::tables::{Load, Tables};

/// A little more time than there is lets a sequence be a choice: sums differ in their last digits.
pub(crate) const SLACK: f64 = 1.0 + 1e-9;

/// No price is higher, so that products of prices stay numbers.
const MAX_PRICE: f64 = 1e100;

/// All that the bound of a leaf follows from.
pub(crate) struct Relaxation<'a> {
    pub(crate) tables: &'a Tables,
    limit: f64,
    /// Device-seconds at nominal speed that a sequence takes, by shape and length.
    work: Vec<Vec<f64>>,
    /// Whole devices' capacities that it takes, likewise; and what a whole one is, by shape.
    share: Vec<Vec<f64>>,
    whole: Vec<f64>,
    capacity: Capacity,
    usable: Vec<u32>,
    /// The speeds of all devices that the groups of a micro-batch can use, together.
    total_speed: f64,
    pub(crate) fastest: f64,
    /// Their capacities together, in that of the largest device.
    total_capacity: f64,
    /// Some makespan is at least that.
    least_makespan: f64,
}

/// The decisions of a leaf, made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    pub(crate) num_micro_batches: u64,
    /// The number of micro-batches that have groups.
    pub(crate) num_opened: usize,
    pub(crate) groups: Vec<Opened>,
    /// The number of sequences that they hold, the longest ones.
    pub(crate) num_decided: usize,
}

/// A group that holds decided sequences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) micro_batch: usize,
    pub(crate) shape: usize,
    /// Nominal seconds of its decided sequences.
    pub(crate) seconds: f64,
    pub(crate) load: Load,
}

/// A place that sequences can be put into.
struct Place {
    micro_batch: usize,
    /// The shape of a group, or as many devices as a new one may have.
    allows: Allows,
    speed: f64,
    capacity: f64,
    /// Nominal seconds of decided sequences.
    seconds: f64,
}

enum Allows {
    Shape(usize),
    Devices(u32),
}

/// A sum, and how large its terms are.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    magnitude: f64,
    pub(crate) num_terms: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
        self.num_terms += 1.0;
    }

    /// No more than the exact sum.
    pub(crate) fn at_least(&self) -> f64 {
        self.value - self.num_terms * f64::EPSILON * self.magnitude
    }
}

impl<'a> Relaxation<'a> {
    pub(crate) fn new(tables: &'a Tables, capacity: Capacity, limit: f64) -> Self {
        let usable = tables.usable_devices();
        let num_usable = usable.last().map_or(0, |&usable| usable as usize);
        let speeds = tables.speeds();
        let mut budgets = tables.budgets();
        budgets.sort_unstable_by(|a, b| b.cmp(a));
        let unit = (budgets[0] as f64).max(1.0);
        let all: u128 = budgets[..num_usable].iter().copied().map(u128::from).sum();
        let total_capacity = match capacity {
            Capacity::Memory => all as f64 / unit,
            Capacity::Tokens | Capacity::Sequences => num_usable as f64,
        };
        let classes = || 0..tables.lens.len();
        let shapes = || tables.shapes.iter().enumerate();
        let whole: Vec<f64> = shapes()
            .map(|(_, shape)| match capacity {
                Capacity::Memory => unit,
                Capacity::Tokens | Capacity::Sequences => {
                    (shape.room.measure(capacity) as f64).max(1.0)
                }
            })
            .collect();
        let work = shapes().map(|(_, shape)| {
            let degree = f64::from(shape.degree);
            let seconds = shape.seconds.iter();
            seconds.map(|seconds| degree * seconds).collect()
        });
        let share = shapes().map(|(index, shape)| {
            let measure = |class| tables.load(index, class).measure(capacity) as f64;
            let degree = f64::from(shape.degree);
            classes()
                .map(|class| degree * measure(class) / whole[index])
                .collect()
        });
        let fastest = speeds[0];
        let least = |class: usize| {
            let fitting = shapes().filter(|&(index, _)| class < tables.shapes[index].num_fitting);
            let seconds = fitting.map(|(_, shape)| shape.seconds[class] / fastest);
            seconds.fold(f64::INFINITY, f64::min)
        };
        Relaxation {
            limit,
            work: work.collect(),
            share: share.collect(),
            whole,
            capacity,
            usable,
            total_speed: speeds[..num_usable].iter().sum(),
            fastest,
            total_capacity,
            least_makespan: classes().map(least).fold(0.0, f64::max),
            tables,
        }
    }

    /// The work of a sequence of each length in a shape, and its share of capacity, of all devices of a group together.
    pub(crate) fn costs(&self, shape: usize) -> impl Iterator<Item = (f64, f64)> {
        let work = self.work[shape].iter().copied();
        work.zip(self.share[shape].iter().copied())
    }

    /// The devices that the groups of a micro-batch can use.
    pub(crate) fn num_usable(&self) -> u32 {
        self.usable.last().copied().unwrap_or(0)
    }

    /// The least time of any plan that agrees with the decisions, or the limit where that is less.
    ///
    /// # Errors
    ///
    /// The fault of the prices.
    pub(crate) fn bound(&self, decided: &Decided, leaf: &Leaf) -> Result<f64, String> {
        let overheads = decided.num_micro_batches as f64 * self.tables.overhead;
        let makespans = self.least_makespans(decided);
        // What makespans may take beyond their least in a plan that takes less than the limit.
        let slack = self.limit - overheads - makespans.iter().sum::<f64>();
        let places = self.places(decided);
        check_prices(leaf, places.len())?;
        if slack < 0.0 {
            return Ok(self.limit);
        }
        // Speeds and prices of places are sums, too.
        let mut sum = Sum {
            num_terms: f64::from(self.tables.cluster.num_devices()) + 16.0,
            ..Sum::default()
        };
        let left = self.tables.left_without_longest(decided.num_decided);
        let Some(cheapest) = self.cheapest(&left, leaf, &places, &makespans, slack) else {
            // Some sequence has nowhere to go in time.
            return Ok(self.limit);
        };
        let open = cheapest.iter().zip(&left).filter(|&(_, &count)| count > 0);
        for (&price, &count) in open {
            sum.add(price * f64::from(count));
        }
        let mut paid = vec![0.0; makespans.len()];
        let prices = leaf.time_prices.iter().zip(&leaf.capacity_prices);
        for (place, (&time, &capacity)) in places.iter().zip(prices) {
            sum.add(time * place.seconds);
            sum.add(-capacity * place.capacity);
            paid[place.micro_batch] += time * place.speed;
        }
        for (&least, &paid) in makespans.iter().zip(&paid) {
            let most = least + slack;
            let makespan = if paid <= 1.0 { least } else { most };
            sum.add(makespan);
            sum.add(-makespan * paid);
            // Which of the two is less may be wrong by as much.
            sum.magnitude += most;
        }
        sum.add(overheads);
        let bound = sum.at_least();
        // Sums that became too large to be numbers prove nothing.
        Ok(if bound.is_nan() {
            0.0
        } else {
            bound.min(self.limit)
        })
    }

    /// The least makespan of every micro-batch that is opened, then that of all others together.
    fn least_makespans(&self, decided: &Decided) -> Vec<f64> {
        let mut least = vec![0.0f64; decided.num_opened];
        for group in &decided.groups {
            // Decided groups are of equal devices.
            let makespan = &mut least[group.micro_batch];
            *makespan = makespan.max(group.seconds / self.fastest);
        }
        if self.num_unopened(decided) > 0 {
            least.push(if decided.num_opened == 0 {
                self.least_makespan
            } else {
                0.0
            });
        }
        least
    }

    fn num_unopened(&self, decided: &Decided) -> u64 {
        decided.num_micro_batches - decided.num_opened as u64
    }

    /// Groups, then what is left of each opened micro-batch, then the others.
    fn places(&self, decided: &Decided) -> Vec<Place> {
        let degree = |group: &Opened| self.tables.shapes[group.shape].degree;
        let mut places: Vec<Place> = Vec::new();
        for group in &decided.groups {
            let devices = f64::from(degree(group));
            places.push(Place {
                micro_batch: group.micro_batch,
                allows: Allows::Shape(group.shape),
                speed: devices * self.fastest,
                capacity: devices - devices * self.part(group),
                seconds: devices * group.seconds,
            });
        }
        for micro_batch in 0..decided.num_opened {
            let inside = decided
                .groups
                .iter()
                .filter(|group| group.micro_batch == micro_batch);
            let taken: u32 = inside.map(degree).sum();
            let devices = self.usable[self.usable.len() - 1 - taken as usize];
            places.push(Place {
                micro_batch,
                allows: Allows::Devices(devices),
                speed: f64::from(devices) * self.fastest,
                capacity: f64::from(devices),
                seconds: 0.0,
            });
        }
        let num_unopened = self.num_unopened(decided);
        if num_unopened > 0 {
            places.push(Place {
                micro_batch: decided.num_opened,
                allows: Allows::Devices(self.tables.cluster.num_devices()),
                speed: self.total_speed,
                capacity: num_unopened as f64 * self.total_capacity,
                seconds: 0.0,
            });
        }
        places
    }

    /// The part of its devices' capacity that the decided sequences of a group take.
    fn part(&self, group: &Opened) -> f64 {
        group.load.measure(self.capacity) as f64 / self.whole[group.shape]
    }

    /// The price of a sequence of each length in the cheapest place that it has time for; `None` where one has none.
    fn cheapest(
        &self,
        left: &[u32],
        leaf: &Leaf,
        places: &[Place],
        makespans: &[f64],
        slack: f64,
    ) -> Option<Vec<f64>> {
        let mut cheapest = vec![f64::INFINITY; left.len()];
        for (index, place) in places.iter().enumerate() {
            let longest = (makespans[place.micro_batch] + slack) * self.fastest;
            let mut offer = |shape: usize, seconds: f64| {
                let has_time = self.tables.shapes[shape]
                    .seconds
                    .partition_point(|&of| of <= seconds * SLACK);
                let num = has_time.min(self.tables.shapes[shape].num_fitting);
                let (time, capacity) = (leaf.time_prices[index], leaf.capacity_prices[index]);
                let costs = self.work[shape][..num].iter().zip(&self.share[shape]);
                for (cheapest, (work, share)) in cheapest.iter_mut().zip(costs) {
                    *cheapest = cheapest.min(time * work + capacity * share);
                }
            };
            match place.allows {
                Allows::Shape(shape) => {
                    let degree = f64::from(self.tables.shapes[shape].degree);
                    offer(shape, longest - place.seconds / degree);
                }
                Allows::Devices(devices) => {
                    for (shape, of) in self.tables.shapes.iter().enumerate() {
                        if of.degree <= devices {
                            offer(shape, longest);
                        }
                    }
                }
            }
        }
        let is_placed = |(&price, &count): (&f64, &u32)| count == 0 || price < f64::INFINITY;
        let all_placed = cheapest.iter().zip(left).all(is_placed);
        all_placed.then_some(cheapest)
    }
}

/// Prices may be any, as long as they are prices, one for each place.
fn check_prices(leaf: &Leaf, num_places: usize) -> Result<(), String> {
    let all = [
        ("time_prices", &leaf.time_prices),
        ("capacity_prices", &leaf.capacity_prices),
    ];
    for (key, prices) in all {
        if prices.len() != num_places {
            let found = prices.len();
            return Err(format!(
                "has {found} {key}; its decisions make {num_places} places"
            ));
        }
        if let Some(price) = prices
            .iter()
            .find(|price| !(0.0..=MAX_PRICE).contains(*price))
        {
            return Err(format!(
                "has {price:?} among its {key}; prices are numbers from 0 to 1e100"
            ));
        }
    }
    if leaf.or_more && leaf.capacity_prices.iter().any(|&price| price > 0.0) {
        let rule = "without a number of micro-batches, there is any capacity";
        return Err(format!("has a price in capacity_prices; {rule}"));
    }
    Ok(())
}
