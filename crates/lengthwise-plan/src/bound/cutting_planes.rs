//! A model of how high the Lagrangian bound of a node can be: the least of the planes that it was found to be below.
//!
//! The bound is a concave function of prices, the least of one plane for each way to place all sequences. An evaluation at
//! some prices finds the plane of one way: the bound there, with the excesses of places as slopes. The highest point of all
//! planes so far is a linear programme (Kelley, *The cutting-plane method for solving convex programs*, 1960); its dual covers,
//! by a mixture of those ways, what places have, and what a mixture lacks it buys at the most that a price can be:
//!
//! ```text
//! maximise  t   s.t.  t <= bound_i + excess_i (x - x_i)  for each plane i,   0 <= x <= most
//! minimise  sum of l_i (bound_i - excess_i x_i) + most a   s.t.  sum of l_i = 1,   a >= sum of l_i excess_i,   l, a >= 0
//! ```
//!
//! The prices `x` are the dual prices of the mixture, which is a restricted master problem as that of patterns is.

use super::decisions::DualPrices;
use crate::patterns::{Master, Pattern};

/// The most that all devices of a place are paid for a second, in parts of a second, and for their whole budget, in limits of
/// the makespans: beyond any that a bound below the limit needs.
const MOST: f64 = 4.0;

/// Planes found so far.
pub(super) struct CuttingPlanes {
    master: Master,
    /// The devices of each place, at least 1: prices are those of all of them together, so that they are alike in size.
    devices: Vec<f64>,
}

impl CuttingPlanes {
    /// No plane yet, of places with so many devices, where makespans add up to `limit` at most. Memory may have no price.
    pub(super) fn new(devices: &[f64], limit: f64, prices_memory: bool) -> Self {
        let num = devices.len();
        let alone = |row: usize, cost: f64| Pattern {
            cost,
            content: vec![(row, 1.0)],
        };
        let most_memory = if prices_memory { MOST * limit } else { 0.0 };
        let bought = (0..2 * num).map(|row| {
            let is_time = row < num;
            alone(row, if is_time { MOST } else { most_memory })
        });
        let bought = bought.chain([alone(2 * num, MOST * limit)]);
        let mut counts = vec![0.0; 2 * num + 1];
        counts[2 * num] = 1.0;
        let mut master = Master::new(bought.collect(), &counts);
        for row in 0..2 * num {
            master.add(Pattern {
                cost: 0.0,
                content: vec![(row, -1.0)],
            });
        }
        CuttingPlanes {
            master,
            devices: devices.iter().map(|devices| devices.max(1.0)).collect(),
        }
    }

    /// Adds the plane that was found at some prices.
    pub(super) fn add(
        &mut self,
        prices: &DualPrices,
        bound: f64,
        time_excess: &[f64],
        memory_excess: &[f64],
    ) {
        let num = self.devices.len();
        let time = time_excess.iter().zip(&prices.time);
        let memory = memory_excess.iter().zip(&prices.memory);
        let paid: f64 = time
            .chain(memory)
            .map(|(excess, price)| excess * price)
            .sum();
        let excesses = time_excess.iter().chain(memory_excess).enumerate();
        let content = excesses.map(|(row, excess)| (row, -excess / self.devices[row % num]));
        self.master.add(Pattern {
            cost: bound - paid,
            content: content.chain([(2 * num, 1.0)]).collect(),
        });
    }

    /// The prices at which the least plane is highest, and how high it is there.
    pub(super) fn highest(&self) -> (DualPrices, f64) {
        let num = self.devices.len();
        let duals = &self.master.duals;
        let price = |row: usize| duals[row].max(0.0) / self.devices[row % num];
        let prices = DualPrices {
            time: (0..num).map(price).collect(),
            memory: (num..2 * num).map(price).collect(),
        };
        (prices, duals[2 * num])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound at prices `y` and `z` of one place is the least of 1 + y, 3 - y, and 4 - z: highest where y is 1.
    #[test]
    fn planes_are_added_until_the_highest_point_is_found() {
        let mut planes = CuttingPlanes::new(&[2.0], 10.0, true);
        let evaluate = |y: f64, z: f64| {
            let ways = [
                (1.0 + y, 1.0, 0.0),
                (3.0 - y, -1.0, 0.0),
                (4.0 - z, 0.0, -1.0),
            ];
            let least = |a: &(f64, f64, f64), b: &(f64, f64, f64)| a.0.total_cmp(&b.0);
            ways.into_iter().min_by(least).unwrap()
        };
        let mut at = DualPrices {
            time: vec![0.0],
            memory: vec![0.0],
        };
        let mut highest = 0.0;
        for _ in 0..6 {
            let (bound, time, memory) = evaluate(at.time[0], at.memory[0]);
            planes.add(&at, bound, &[time], &[memory]);
            (at, highest) = planes.highest();
        }
        assert!((highest - 2.0).abs() < 1e-9, "{highest}");
        assert!((at.time[0] - 1.0).abs() < 1e-9, "{at:?}");
    }

    #[test]
    fn memory_without_a_price_stays_without_one() {
        let mut planes = CuttingPlanes::new(&[1.0], 10.0, false);
        let at = DualPrices {
            time: vec![0.0],
            memory: vec![0.0],
        };
        planes.add(&at, 1.0, &[1.0], &[5.0]);
        let (at, highest) = planes.highest();
        assert_eq!(at.memory, [0.0]);
        assert!((highest - (1.0 + MOST)).abs() < 1e-9, "{highest}");
    }
}
