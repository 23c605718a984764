//! The sequences that a relaxation places.

use crate::instance::Instance;

/// How many of the longest sequences stand for themselves, so that they can be decided one by one.
pub(crate) const MAX_DEPTH: usize = 24;

/// The sequences of an instance by increasing length, some of them merged.
pub(crate) struct Items {
    /// How many sequences each stands for.
    pub(super) counts: Vec<f64>,
    /// Seconds of one of them in each shape, at the speed of equal devices: `[shape][item]`.
    pub(super) time: Vec<Vec<f64>>,
    /// The part of a device's budget that it takes: `[shape][item]`.
    pub(super) memory: Vec<Vec<f64>>,
    /// How many of the items fit groups of each shape.
    pub(super) num_fitting: Vec<usize>,
}

impl Items {
    pub(super) fn of(instance: &Instance<'_>, ratio: f64, speed: f64) -> Self {
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
