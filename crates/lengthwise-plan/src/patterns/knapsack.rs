//! The pricing problem of column generation: the pattern of the most reduced cost is a knapsack of sequences.

use super::buckets::GroupKind;

/// The number of units that a budget is divided into: the knapsack is solved by dynamic programming over them.
const NUM_UNITS: usize = 1024;

/// Sequences that take less than this part of a budget are small items: they may be split.
const SMALL: f64 = 1.0 / 32.0;

/// The optimal values of knapsacks of every size up to a group's budget.
///
/// A sequence is worth its dual price less what it costs the group. Sizes are rounded down and small items may be split, so that
/// no group's content is worth more: the values are upper bounds.
#[derive(Clone)]
pub(crate) struct KnapsackValues {
    /// By units of capacity.
    values: Vec<f64>,
    /// The bucket whose sequence comes last, to trace the solution back; none where there are small items alone.
    last: Vec<Option<u32>>,
    /// The small item that is worth the most for its size.
    small: Option<SmallItem>,
}

#[derive(Clone, Copy)]
struct SmallItem {
    bucket: usize,
    /// The worth of a whole budget of it.
    density: f64,
}

impl KnapsackValues {
    /// Without any sequences to fill room with.
    pub(crate) fn of_nothing() -> Self {
        KnapsackValues {
            values: vec![0.0; NUM_UNITS + 1],
            last: vec![None; NUM_UNITS + 1],
            small: None,
        }
    }

    /// With all that fit.
    pub(super) fn of_all(kind: &GroupKind, duals: &[f64]) -> Self {
        let mut values = KnapsackValues::of_nothing();
        for bucket in 0..kind.num_fitting() {
            values.add(kind, duals, bucket);
        }
        values
    }

    /// Allows sequences of one more bucket, none of them shorter than those before; whether that changes anything.
    pub(crate) fn add(&mut self, kind: &GroupKind, duals: &[f64], bucket: usize) -> bool {
        let profit = duals[bucket] - kind.sequence_cost[bucket];
        let memory = kind.memory[bucket];
        if memory < SMALL {
            let density = profit / memory.max(f64::EPSILON);
            let is_best = density > self.small.map_or(0.0, |small| small.density);
            if is_best {
                self.small = Some(SmallItem { bucket, density });
                for (units, value) in self.values.iter_mut().enumerate() {
                    *value = units as f64 / NUM_UNITS as f64 * density;
                }
            }
            return is_best;
        }
        let size = units(memory);
        // Where shorter ones in the same room are worth as much, none of it is ever wanted.
        if profit <= self.values[size] {
            return false;
        }
        for room in size..=NUM_UNITS {
            let value = self.values[room - size] + profit;
            if value > self.values[room] {
                self.values[room] = value;
                self.last[room] = Some(bucket as u32);
            }
        }
        true
    }

    /// The value of a knapsack of the whole budget.
    pub(super) fn of_budget(&self) -> f64 {
        self.values[NUM_UNITS]
    }

    /// The value of a knapsack of a part of the budget.
    pub(crate) fn of_room(&self, part: f64) -> f64 {
        self.values[units(part)]
    }

    /// The optimal content of a knapsack of the whole budget: buckets and the number of sequences of each.
    pub(super) fn best_content(&self, kind: &GroupKind) -> Vec<(usize, f64)> {
        let mut content: Vec<(usize, f64)> = Vec::new();
        let mut room = NUM_UNITS;
        while let Some(bucket) = self.last[room] {
            let bucket = bucket as usize;
            match content.iter_mut().find(|(held, _)| *held == bucket) {
                Some((_, count)) => *count += 1.0,
                None => content.push((bucket, 1.0)),
            }
            room -= units(kind.memory[bucket]);
        }
        if let Some(small) = self.small.filter(|_| room > 0) {
            let part = room as f64 / NUM_UNITS as f64;
            content.push((
                small.bucket,
                part / kind.memory[small.bucket].max(f64::EPSILON),
            ));
        }
        content
    }
}

/// Whole units in a part of the budget; a part that is all but a whole number of them counts as that.
fn units(part: f64) -> usize {
    ((part * NUM_UNITS as f64 * (1.0 + 1e-12)) as usize).min(NUM_UNITS)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The most that sequences from `bucket` on are worth in so much room, each bucket as often as it fits.
    fn most(kind: &GroupKind, duals: &[f64], bucket: usize, room: f64) -> f64 {
        let Some(&memory) = kind.memory.get(bucket) else {
            return 0.0;
        };
        let mut best = most(kind, duals, bucket + 1, room);
        if memory <= room {
            let profit = duals[bucket] - kind.sequence_cost[bucket];
            best = best.max(profit + most(kind, duals, bucket, room - memory));
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn room_is_worth_what_fills_it_best(
            mut memory in vec(0.1f64..1.0, 1..6),
            figures in vec((0.0f64..3.0, 0.0f64..2.0), 6),
            part in 0.0f64..1.0,
        ) {
            memory.sort_by(f64::total_cmp);
            let kind = GroupKind {
                shape: 0,
                fixed_cost: 1.0,
                sequence_cost: figures[..memory.len()].iter().map(|figures| figures.1).collect(),
                memory,
            };
            let duals: Vec<f64> = figures.iter().map(|figures| figures.0).collect();
            let values = KnapsackValues::of_all(&kind, &duals);
            // Sizes are rounded down: at most what fits into that much more room, and at least what fits.
            let more = 1.0 + 10.0 / NUM_UNITS as f64;
            let all = values.of_budget();
            prop_assert!(all >= most(&kind, &duals, 0, 1.0) - 1e-9);
            prop_assert!(all <= most(&kind, &duals, 0, more) + 1e-9);
            let part = values.of_room(part);
            prop_assert!(part <= all);
            let content = values.best_content(&kind);
            let sum: f64 = content.iter().map(|&(bucket, count)| count * (duals[bucket] - kind.sequence_cost[bucket])).sum();
            prop_assert!((sum - all).abs() < 1e-9);
        }
    }

    #[test]
    fn small_items_fill_what_others_leave() {
        let kind = GroupKind {
            shape: 0,
            fixed_cost: 1.0,
            sequence_cost: vec![0.0, 0.0],
            memory: vec![0.01, 0.75],
        };
        let values = KnapsackValues::of_all(&kind, &[0.02, 3.0]);
        assert!((values.of_budget() - 3.5).abs() < 1e-9);
        assert_eq!(values.best_content(&kind), [(1, 1.0), (0, 25.0)]);
    }
}
