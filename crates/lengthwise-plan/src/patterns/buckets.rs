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
        that.strategy == this.strategy && that.best_budget >= this.best_budget && no_longer()
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
