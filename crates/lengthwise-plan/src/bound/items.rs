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
    /// The part of a device's budget that it takes, of the limit that binds first: `[shape][item]`.
    pub(super) memory: Vec<Vec<f64>>,
    /// How many of the items fit groups of each shape.
    pub(super) num_fitting: Vec<usize>,
}

/// Sequences on their way into an item.
struct Pending {
    count: f64,
    shortest: usize,
    /// Seconds and shares of all, in each shape.
    sums: Vec<(f64, f64)>,
}

impl Items {
    pub(super) fn of(instance: &Instance<'_>, ratio: f64, speed: f64) -> Self {
        let num_shapes = instance.shapes.len();
        let mut items = Items {
            counts: Vec::new(),
            time: vec![Vec::new(); num_shapes],
            memory: vec![Vec::new(); num_shapes],
            num_fitting: vec![0; num_shapes],
        };
        let singles_from = instance.num_sequences().saturating_sub(MAX_DEPTH);
        let (mut position, mut first_len) = (0, 0.0);
        let mut pending: Option<Pending> = None;
        for class in 0..instance.num_classes() {
            let len = instance.class_lens[class].as_f64();
            let mut left = instance.members(class).len();
            if len > first_len * ratio {
                items.push(instance, pending.take());
                first_len = len;
            }
            while left > 0 {
                let taken = if position < singles_from {
                    left.min(singles_from - position)
                } else {
                    1
                };
                let into = pending.get_or_insert_with(|| Pending {
                    count: 0.0,
                    shortest: class,
                    sums: vec![(0.0, 0.0); num_shapes],
                });
                for (shape, sum) in into.sums.iter_mut().enumerate() {
                    sum.0 += instance.time(shape, class) / speed * taken as f64;
                    sum.1 += instance.share(shape, class) * taken as f64;
                }
                into.count += taken as f64;
                position += taken;
                left -= taken;
                if position >= singles_from {
                    items.push(instance, pending.take());
                }
            }
        }
        items.push(instance, pending);
        items
    }

    /// Adds an item, longer than those before. It fits the shapes that its shortest sequence does.
    fn push(&mut self, instance: &Instance<'_>, pending: Option<Pending>) {
        let Some(pending) = pending else { return };
        self.counts.push(pending.count);
        for (shape, (time, share)) in pending.sums.into_iter().enumerate() {
            self.time[shape].push(time / pending.count);
            self.memory[shape].push(share / pending.count);
            self.num_fitting[shape] += usize::from(instance.fits(shape, pending.shortest));
        }
    }
}
