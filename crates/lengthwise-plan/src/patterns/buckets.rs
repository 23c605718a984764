//! The sequences of a batch with similar lengths merged, and their costs in groups of each shape.

use crate::instance::Instance;

/// The most buckets, unless lengths differ more than [`MAX_RATIO`].
const MAX_BUCKETS: usize = 80;

/// Lengths of a bucket are within this ratio at first, and within this one at last.
const MIN_RATIO: f64 = 1.02;
const MAX_RATIO: f64 = 2.0;

/// Runs of classes with similar lengths. Each sequence of a bucket counts as its shortest one; the cost of the others beyond
/// that is in `surcharge`, so that a bound stays one.
pub(crate) struct Buckets {
    /// The first class of each bucket, then the number of classes.
    pub(crate) starts: Vec<usize>,
    /// The number of sequences of each bucket.
    pub(super) counts: Vec<f64>,
    /// The groups that there can be.
    pub(crate) kinds: Vec<GroupKind>,
    /// The least that all sequences together cost beyond the shortest of their buckets: seconds of the step.
    pub(super) surcharge: f64,
}

/// The costs and sizes of sequences in groups of one shape.
pub(crate) struct GroupKind {
    /// Its position in [`Instance::shapes`].
    pub(crate) shape: usize,
    /// Its devices' part of an overhead.
    pub(crate) fixed_cost: f64,
    /// Seconds of the step that one sequence takes: its device-seconds, spread over all devices. By bucket, as far as they
    /// fit.
    pub(super) sequence_cost: Vec<f64>,
    /// The part of the budget that it takes.
    pub(super) memory: Vec<f64>,
}

impl Buckets {
    pub(super) fn of(instance: &Instance<'_>) -> Self {
        let mut ratio = MIN_RATIO;
        let mut starts = starts(instance, ratio);
        while starts.len() > MAX_BUCKETS + 1 && ratio < MAX_RATIO {
            ratio = 1.0 + (ratio - 1.0) * 1.2;
            starts = self::starts(instance, ratio);
        }
        let counts = starts.windows(2).map(|bucket| {
            let members = (bucket[0]..bucket[1]).map(|class| instance.members(class).len());
            members.sum::<usize>() as f64
        });
        let shapes = (0..instance.shapes.len()).filter(|&shape| !is_outdone(instance, shape));
        Buckets {
            counts: counts.collect(),
            kinds: shapes
                .map(|shape| GroupKind::of(instance, shape, &starts))
                .collect(),
            surcharge: surcharge(instance, &starts),
            starts,
        }
    }

    /// How many there are.
    pub(crate) fn num_buckets(&self) -> usize {
        self.counts.len()
    }
}

impl GroupKind {
    fn of(instance: &Instance<'_>, shape: usize, starts: &[usize]) -> Self {
        let figures = &instance.shapes[shape];
        let num_devices = f64::from(instance.problem.cluster.num_devices());
        let capacity = instance.measure(instance.capacity(shape, figures.best_budget)) as f64;
        let shortest = starts[..starts.len() - 1].iter().copied();
        let fitting: Vec<usize> = shortest
            .take_while(|&class| instance.fits(shape, class))
            .collect();
        let sequence_cost = |&class: &usize| instance.work(shape, class) / instance.total_speed;
        let memory = |&class: &usize| {
            instance.measure(instance.load(shape, class)) as f64 / capacity.max(1.0)
        };
        GroupKind {
            shape,
            fixed_cost: instance.overhead * f64::from(figures.degree) / num_devices,
            sequence_cost: fitting.iter().map(sequence_cost).collect(),
            memory: fitting.iter().map(memory).collect(),
        }
    }

    /// The number of buckets, from the shortest on, that fit such a group.
    pub(crate) fn num_fitting(&self) -> usize {
        self.sequence_cost.len()
    }
}

/// The first class of each bucket, then the number of classes. Lengths of a bucket fit the same shapes.
fn starts(instance: &Instance<'_>, ratio: f64) -> Vec<usize> {
    let num_fitting = |class| {
        let shapes = 0..instance.shapes.len();
        shapes.filter(|&shape| instance.fits(shape, class)).count()
    };
    let mut starts = vec![0];
    let mut first = (instance.class_lens[0].as_f64(), num_fitting(0));
    for class in 1..instance.num_classes() {
        let this = (instance.class_lens[class].as_f64(), num_fitting(class));
        if this.0 > first.0 * ratio || this.1 != first.1 {
            starts.push(class);
            first = this;
        }
    }
    starts.push(instance.num_classes());
    starts
}

/// Whether another shape of the same strategy has as much room and takes no longer, whatever the sequence.
fn is_outdone(instance: &Instance<'_>, shape: usize) -> bool {
    let this = &instance.shapes[shape];
    (0..shape).any(|other| {
        let that = &instance.shapes[other];
        let no_longer = || {
            let times = instance.times(other).iter().zip(instance.times(shape));
            times.into_iter().all(|(that, this)| that <= this)
        };
        that.strategy == this.strategy && that.best_budget.covers(this.best_budget) && no_longer()
    })
}

fn surcharge(instance: &Instance<'_>, starts: &[usize]) -> f64 {
    let mut sum = 0.0;
    for bucket in starts.windows(2) {
        let fitting: Vec<usize> = (0..instance.shapes.len())
            .filter(|&shape| instance.fits(shape, bucket[0]))
            .collect();
        for class in bucket[0] + 1..bucket[1] {
            let beyond =
                |&shape: &usize| instance.work(shape, class) - instance.work(shape, bucket[0]);
            let least = fitting.iter().map(beyond).fold(f64::INFINITY, f64::min);
            sum += least * instance.members(class).len() as f64;
        }
    }
    sum / instance.total_speed
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::common::few::few_sequences;
    use crate::common::{Case, Size, cases_with_rules, sample};

    pub(in crate::patterns) fn problems(seed: u8) -> impl Iterator<Item = Case> {
        let size = Size {
            num_nodes: 2,
            devices_per_node: 4,
            num_sequences: 100,
            seq_len: 60_000,
        };
        sample(cases_with_rules(size), seed, 100).chain(sample(few_sequences(20..=120), seed, 30))
    }

    #[test]
    fn each_sequence_counts_as_the_shortest_of_its_bucket_and_the_rest_is_in_the_surcharge() {
        for case in problems(150) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let buckets = Buckets::of(&instance);
            assert_eq!(buckets.num_buckets() + 1, buckets.starts.len());
            assert_eq!(
                buckets.counts.iter().sum::<f64>(),
                instance.num_sequences() as f64
            );
            let mut surcharge = 0.0;
            for (bucket, classes) in buckets.starts.windows(2).enumerate() {
                let members = (classes[0]..classes[1]).map(|class| instance.members(class).len());
                assert_eq!(buckets.counts[bucket], members.sum::<usize>() as f64);
                for class in classes[0]..classes[1] {
                    let shapes = 0..instance.shapes.len();
                    let of_first = shapes.clone().filter(|&one| instance.fits(one, classes[0]));
                    let of_class = shapes.filter(|&one| instance.fits(one, class));
                    let fitting: Vec<usize> = of_first.collect();
                    assert_eq!(fitting, of_class.collect::<Vec<usize>>());
                    let beyond = fitting
                        .iter()
                        .map(|&one| instance.work(one, class) - instance.work(one, classes[0]));
                    let least = beyond.fold(f64::INFINITY, f64::min);
                    surcharge += least * instance.members(class).len() as f64;
                }
            }
            surcharge /= instance.total_speed;
            assert!((buckets.surcharge - surcharge).abs() <= 1e-9 * surcharge);
        }
    }

    #[test]
    fn group_kinds_cost_their_part_of_an_overhead_and_of_the_devices_time() {
        for case in problems(151) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let buckets = Buckets::of(&instance);
            let num_devices = f64::from(instance.problem.cluster.num_devices());
            for kind in &buckets.kinds {
                let figures = &instance.shapes[kind.shape];
                let fixed = instance.overhead * f64::from(figures.degree) / num_devices;
                assert!((kind.fixed_cost - fixed).abs() <= 1e-12 * fixed);
                let firsts = buckets.starts[..buckets.num_buckets()].iter();
                let fitting = firsts.take_while(|&&class| instance.fits(kind.shape, class));
                assert_eq!(kind.num_fitting(), fitting.clone().count());
                let capacity = instance.capacity(kind.shape, figures.best_budget);
                let capacity = instance.measure(capacity).max(1) as f64;
                for (bucket, &class) in fitting.enumerate() {
                    let cost = instance.work(kind.shape, class) / instance.total_speed;
                    assert!((kind.sequence_cost[bucket] - cost).abs() <= 1e-12 * cost);
                    let part = instance.measure(instance.load(kind.shape, class)) as f64 / capacity;
                    assert!((kind.memory[bucket] - part).abs() <= 1e-12 * part);
                }
            }
            // Patterns that are left out have as much room elsewhere, in no more time.
            for (shape, figures) in instance.shapes.iter().enumerate() {
                let is_kind = |of: &GroupKind| of.shape == shape;
                let as_good = |of: &GroupKind| {
                    let others = &instance.shapes[of.shape];
                    others.strategy == figures.strategy
                        && others.best_budget.covers(figures.best_budget)
                        && instance
                            .times(of.shape)
                            .iter()
                            .zip(instance.times(shape))
                            .all(|(a, b)| a <= b)
                };
                assert!(
                    buckets
                        .kinds
                        .iter()
                        .any(|kind| is_kind(kind) || as_good(kind))
                );
            }
            for (index, kind) in buckets.kinds.iter().enumerate() {
                let this = &instance.shapes[kind.shape];
                let outdoes = |before: &GroupKind| {
                    let that = &instance.shapes[before.shape];
                    let times = instance.times(before.shape).iter();
                    that.strategy == this.strategy
                        && that.best_budget.covers(this.best_budget)
                        && times
                            .zip(instance.times(kind.shape))
                            .all(|(that, this)| that <= this)
                };
                assert!(
                    !buckets.kinds[..index].iter().any(outdoes),
                    "one of them is enough"
                );
            }
        }
    }
}
