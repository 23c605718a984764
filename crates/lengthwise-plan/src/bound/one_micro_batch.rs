//! How short the makespan of a plan of one micro-batch can be, by the devices that its groups need.
//!
//! A device has one strategy for the whole of a micro-batch. Within a makespan `T`, a group of shape `p` has `d(p)` devices for
//! `T` seconds and with their memory; so for any part `x_p` from 0 to 1 that its devices are counted by time, all sequences need
//!
//! ```text
//! sum over s of  min over p of  d(p) ( x_p w(p,s) / T + (1 - x_p) m(p,s) )        m: the part of a device's memory
//! ```
//!
//! devices at least, and more than there are prove that the makespan is longer than `T` (the checker's module of this name says
//! why). Parts that are highest are the dual of covering all sequences by groups, in parts, with the fewest devices: a linear
//! programme, whose columns are what a group can hold. Columns are added while they help, and the makespan is raised while it is
//! shown to be too short.

use lengthwise_certificate::OneMicroBatch;

use super::items::Items;
use super::relaxation::Relaxation;
use crate::deadline::Deadline;
use crate::patterns::{Master, Pattern};

/// Rounds of new columns without a longer makespan at most.
const PATIENCE: usize = 8;

/// A makespan that is raised by less, in parts of it, is hardly a longer one.
const LONGER: f64 = 1e-4;

/// Columns that come to the programme in a round at most, the best ones.
const MOST_COLUMNS: usize = 6;

/// Columns that gain less for each device are as good as those that are there.
const LEAST_GAIN: f64 = 1e-6;

/// Sums err in their last digits: what is proven stays by so much shorter than where there are just enough devices.
const CLEAR: f64 = 1e-9;

/// The smallest part of a group that a sequence is taken for, so that a group holds a number of them.
const SMALLEST: f64 = 1e-12;

/// What a group of some shape can hold that is worth most.
struct Fill {
    shape: usize,
    /// The part of time by which its devices hold the least.
    time_part: f64,
    /// What it holds is worth so many devices for each of its own.
    worth: f64,
    /// One item or two, and how many of each.
    content: Vec<(usize, f64)>,
}

impl Relaxation<'_, '_> {
    /// A makespan that no plan of one micro-batch keeps to: `shortest`, above 0, or longer, at most `limit`; `None` if that is not
    /// shown even of the shortest. Devices are equal.
    pub(super) fn one_micro_batch(
        &self,
        shortest: f64,
        limit: f64,
        deadline: Deadline,
    ) -> Option<OneMicroBatch> {
        let (items, shapes) = (&self.coarse, &self.searched_shapes);
        let mut makespan = shortest;
        let mut master = Master::new(self.held_alone(makespan)?, &items.counts);
        let mut prices = master.duals.clone();
        let mut patience = PATIENCE;
        while patience > 0 && makespan < limit && !deadline.has_passed() {
            patience -= 1;
            let fills = self.fills(shapes, &master.duals, makespan);
            let time_parts = self.time_parts(&fills);
            if let Some(longer) =
                self.longest_disproven(items, shapes, &time_parts, makespan, limit)
            {
                if longer > makespan * (1.0 + LONGER) {
                    patience = PATIENCE;
                }
                makespan = longer;
                prices.clone_from(&master.duals);
            }
            let counts = items.counts.iter().zip(&master.duals);
            let devices: f64 = counts.map(|(count, dual)| count * dual).sum();
            if devices <= self.num_devices || !self.add_columns(&mut master, fills) {
                break;
            }
        }
        let all = &self.all_shapes;
        let time_parts = self.time_parts(&self.fills(all, &prices, makespan));
        let makespan_s = self.longest_disproven(&self.exact, all, &time_parts, shortest, limit)?;
        Some(OneMicroBatch {
            makespan_s,
            time_parts,
        })
    }

    /// For each item the group that it needs the fewest devices in, full of it; `None` where one fits no group in time.
    fn held_alone(&self, makespan: f64) -> Option<Vec<Pattern>> {
        let items = &self.coarse;
        let mut least = vec![(f64::INFINITY, None); items.counts.len()];
        for &shape in &self.searched_shapes {
            let num = num_within(items, shape, makespan);
            for (item, least) in least[..num].iter_mut().enumerate() {
                let devices = self.degree(shape) * size(items, shape, item, makespan);
                if devices < least.0 {
                    *least = (devices, Some(shape));
                }
            }
        }
        let alone = |(item, (_, shape)): (usize, (f64, Option<usize>))| {
            shape.map(|shape| Pattern {
                cost: self.degree(shape),
                content: vec![(item, 1.0 / size(items, shape, item, makespan))],
            })
        };
        least.into_iter().enumerate().map(alone).collect()
    }

    /// Adds the columns that gain most for each device; tells whether there are any.
    fn add_columns(&self, master: &mut Master, mut fills: Vec<Fill>) -> bool {
        fills.retain(|fill| fill.worth > 1.0 + LEAST_GAIN);
        fills.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        let is_any = !fills.is_empty();
        for fill in fills.into_iter().take(MOST_COLUMNS) {
            master.add(Pattern {
                cost: self.degree(fill.shape),
                content: fill.content,
            });
        }
        is_any
    }

    /// The part of time of every shape of a certificate; of those without a fill, any.
    fn time_parts(&self, fills: &[Fill]) -> Vec<f64> {
        let num_shapes = self.all_shapes.len() + self.instance.outdone.len();
        let mut parts = vec![0.5; num_shapes];
        for fill in fills {
            parts[fill.shape] = fill.time_part;
        }
        parts
    }

    /// The fill of each shape at the prices of items.
    fn fills(&self, shapes: &[usize], prices: &[f64], makespan: f64) -> Vec<Fill> {
        // What has no price is worth nothing, whatever it takes.
        let per_price: Vec<f64> = prices
            .iter()
            .map(|price| 1.0 / price.max(SMALLEST))
            .collect();
        let fills = shapes.iter();
        fills
            .filter_map(|&shape| self.fill(shape, &per_price, makespan))
            .collect()
    }

    /// What an item takes of a group for its price is a line in the part of time. The least of all lines is highest at an end,
    /// where the group is full of that item, or where a rising line meets a falling one: it holds both, and is full by time and
    /// by memory.
    fn fill(&self, shape: usize, per_price: &[f64], makespan: f64) -> Option<Fill> {
        let items = &self.coarse;
        let num = num_within(items, shape, makespan);
        let (time, memory) = (&items.time[shape][..num], &items.memory[shape][..num]);
        let by_memory = |item: usize| memory[item] * per_price[item];
        let slope = |item: usize| time[item] / makespan * per_price[item] - by_memory(item);
        let lowest = |time_part: f64| {
            let (by_time, by_memory) = (time_part / makespan, 1.0 - time_part);
            let mut lowest = (f64::INFINITY, 0);
            for item in 0..num {
                let height = (by_time * time[item] + by_memory * memory[item]) * per_price[item];
                if height < lowest.0 {
                    lowest = (height, item);
                }
            }
            lowest
        };
        if num == 0 {
            return None;
        }
        let full = |time_part: f64, height: f64, content: Vec<(usize, f64)>| Fill {
            shape,
            time_part,
            worth: 1.0 / (self.degree(shape) * height.max(SMALLEST)),
            content,
        };
        let alone = |item: usize| vec![(item, 1.0 / size(items, shape, item, makespan))];
        let (height, mut rising) = lowest(0.0);
        if slope(rising) <= 0.0 {
            return Some(full(0.0, height, alone(rising)));
        }
        let (height, mut falling) = lowest(1.0);
        if slope(falling) >= 0.0 {
            return Some(full(1.0, height, alone(falling)));
        }
        loop {
            let rise = by_memory(falling) - by_memory(rising);
            let part = (rise / (slope(rising) - slope(falling))).clamp(0.0, 1.0);
            let height = by_memory(rising) + part * slope(rising);
            let (below, item) = lowest(part);
            if below >= height * (1.0 - CLEAR) || item == rising || item == falling {
                let (rising_time, falling_time) =
                    (time[rising] / makespan, time[falling] / makespan);
                let determinant = rising_time * memory[falling] - falling_time * memory[rising];
                let content = vec![
                    (rising, (memory[falling] - falling_time) / determinant),
                    (falling, (rising_time - memory[rising]) / determinant),
                ];
                return Some(full(part, height, content));
            }
            if slope(item) > 0.0 {
                rising = item;
            } else {
                falling = item;
            }
        }
    }

    /// The longest makespan from `shortest` to `limit` within which sequences are shown to need more devices than there are.
    fn longest_disproven(
        &self,
        items: &Items,
        shapes: &[usize],
        time_parts: &[f64],
        shortest: f64,
        limit: f64,
    ) -> Option<f64> {
        let mut makespan = limit;
        while makespan >= shortest {
            let (by_time, by_memory) = self.needed(items, shapes, time_parts, makespan);
            if by_time + by_memory > self.num_devices * (1.0 + CLEAR) {
                return Some(makespan);
            }
            // Within that, sequences that keep to these groups need all devices; others may do with fewer.
            let left = self.num_devices * (1.0 + 2.0 * CLEAR) - by_memory;
            makespan = (by_time * makespan / left).min(makespan * (1.0 - CLEAR));
        }
        None
    }

    /// The devices that all sequences need within a makespan, counted by time and by memory; infinitely many where one fits no
    /// group in time.
    fn needed(
        &self,
        items: &Items,
        shapes: &[usize],
        time_parts: &[f64],
        makespan: f64,
    ) -> (f64, f64) {
        let mut least = vec![(f64::INFINITY, 0.0); items.counts.len()];
        for &shape in shapes {
            let num = num_within(items, shape, makespan);
            let by_time = self.degree(shape) * time_parts[shape] / makespan;
            let by_memory = self.degree(shape) * (1.0 - time_parts[shape]);
            let costs = items.time[shape].iter().zip(&items.memory[shape]);
            for (least, (time, memory)) in least[..num].iter_mut().zip(costs) {
                let needed = (by_time * time, by_memory * memory);
                if needed.0 + needed.1 < least.0 + least.1 {
                    *least = needed;
                }
            }
        }
        let all = least.iter().zip(&items.counts);
        all.fold((0.0, 0.0), |sums, (needed, count)| {
            (sums.0 + count * needed.0, sums.1 + count * needed.1)
        })
    }
}

/// The part of a group that one of an item takes, of its time or its memory.
fn size(items: &Items, shape: usize, item: usize, makespan: f64) -> f64 {
    let by_time = items.time[shape][item] / makespan;
    by_time.max(items.memory[shape][item]).max(SMALLEST)
}

/// How many of the items, the shortest first, fit a group of a shape and take no longer.
fn num_within(items: &Items, shape: usize, makespan: f64) -> usize {
    let times = &items.time[shape][..items.num_fitting[shape]];
    // More than the checker lets in, whatever the last digits are.
    times.partition_point(|&time| time <= makespan * (1.0 + 2.0 * CLEAR))
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Activations;

    use super::*;
    use crate::bound::decisions::Decisions;
    use crate::bound::relaxation::tests::with_relaxation;

    /// Eight sequences of 1,000 tokens: kept, each takes 1 s and half of a device's memory; recomputed, 1.5 s and a tenth.
    fn with_eight(check: impl FnOnce(&Relaxation<'_, '_>)) {
        let costs = [
            (Activations::Keep, 1e-3, 500.0),
            (Activations::Recompute, 1.5e-3, 100.0),
        ];
        with_relaxation(&[1000; 8], &costs, check);
    }

    #[test]
    fn a_device_does_not_lend_its_memory_to_another_strategy() {
        with_eight(|relaxation| {
            // A device that keeps holds two, and the other one takes 9 s for the rest. If all recompute, they take 6 s.
            let best = 6.0;
            let found = relaxation.one_micro_batch(4.0, 100.0, Deadline::default());
            let found = found.unwrap().makespan_s;
            assert!((found - best).abs() < 1e-6, "{found}");
            // Three that are kept fill the memory that five leave: 10.5 s on two devices.
            let decisions = Decisions {
                num_micro_batches: 1,
                ..Decisions::default()
            };
            let mut prices = relaxation.first_prices();
            relaxation.ascend(&decisions, &mut prices, best, 100, Deadline::default());
            let lent = relaxation.bound(&decisions, &prices, best).makespans;
            assert!((lent - 5.25).abs() < 1e-2, "{lent}");
        });
    }

    #[test]
    fn a_makespan_is_no_longer_than_the_limit_and_is_shown_from_the_shortest_on() {
        with_eight(|relaxation| {
            let found = |shortest, limit| {
                let found = relaxation.one_micro_batch(shortest, limit, Deadline::default());
                found.map(|found| found.makespan_s)
            };
            assert_eq!(found(4.0, 5.5), Some(5.5));
            assert_eq!(found(6.1, 100.0), None);
        });
    }
}
