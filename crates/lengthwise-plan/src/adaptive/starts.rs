//! First makespans to fill up to.

use std::collections::HashSet;

use crate::bound::least_micro_batches;
use crate::instance::Instance;

/// Makespans to begin with.
pub(crate) struct Start {
    /// The step time if they hold the batch.
    pub(crate) estimate: f64,
    pub(crate) targets: Vec<f64>,
}

/// First makespans, those of the shortest estimated step first: the longest sequence decides that of its micro-batch, the others share the
/// rest.
pub(crate) fn starts(instance: &Instance<'_>) -> Vec<Start> {
    let longest = instance.num_classes() - 1;
    let total = instance.least_work() / instance.total_speed;
    let least = least_micro_batches(instance) as usize;
    let mut starts: Vec<Start> = Vec::new();
    let multiple = instance.problem.rules.micro_batches_multiple_of.get() as usize;
    for num in (0..3).map(|more| least + more * multiple) {
        for shape in (0..instance.shapes.len()).filter(|&shape| instance.fits(shape, longest)) {
            let first = instance.time(shape, longest) * (1.0 + 1e-9);
            for slack in [1.02, 1.1] {
                let first = first.max(total * slack / num as f64);
                let rest = (total * slack - first).max(0.05 * total);
                let sum = if num == 1 { first } else { first + rest };
                let estimate = sum + instance.overhead * num as f64;
                let mut push = |targets| starts.push(Start { estimate, targets });
                if num > 1 {
                    let mut level = vec![rest / (num - 1) as f64; num];
                    level[0] = first;
                    push(level);
                }
                if num > 2 {
                    push(ladder(first, rest, num));
                }
                push(vec![first; num]);
            }
        }
    }
    starts.sort_by(|a, b| a.estimate.total_cmp(&b.estimate));
    let mut seen = HashSet::new();
    starts.retain(|start| {
        let bits = start.targets.iter().map(|target| target.to_bits());
        seen.insert(bits.collect::<Vec<u64>>())
    });
    starts
}

/// `num` makespans from `first` down, each the same part of the one before, the others `rest` together.
fn ladder(first: f64, rest: f64, num: usize) -> Vec<f64> {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let ratio: f64 = 0.5 * (low + high);
        let sum: f64 = (1..num).map(|power| first * ratio.powi(power as i32)).sum();
        if sum < rest {
            low = ratio;
        } else {
            high = ratio;
        }
    }
    (0..num)
        .map(|power| first * high.powi(power as i32))
        .collect()
}
