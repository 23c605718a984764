//! The shapes that are worth a search, where there are many.

use std::cmp::Reverse;

use crate::Problem;
use crate::instance::Instance;

/// Strategies times sequences up to which all are searched.
const FEW: usize = 1 << 11;

/// The prices of a device's memory for the length of a micro-batch, in parts of its time: nothing where devices have memory to
/// spare, and as much where they have not.
const PRICES: [f64; 3] = [0.0, 0.5, 1.0];

/// A shape stands for others that cost up to this part less. Ten times as much leaves so few degrees that groups are packed
/// worse than by Ulysses alone, and saves no time.
const TOLERANCE: f64 = 1e-3;

/// So many lengths, evenly spread over all, and so many of the longest are looked at.
const NUM_LENGTHS: usize = 48;
const NUM_LONGEST: usize = 24;

/// Makespans that shapes have to meet: halves of the longest that makes sense.
const NUM_MAKESPANS: usize = 6;

/// Whether there are several choices for activations, and more strategies than a search goes through in its time.
///
/// Where activations are all treated alike, few strategies outdo others by much, and searching each family by itself finds
/// better packings than a shortlist.
pub(crate) fn has_many_strategies(problem: Problem<'_>) -> bool {
    let strategies = problem.space.strategies();
    let is_mixed = strategies
        .windows(2)
        .any(|pair| pair[0].activations() != pair[1].activations());
    is_mixed && strategies.len() * problem.batch.num_sequences() > FEW
}

/// Few shapes that are worth a search.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shortlist {
    /// Their positions among all.
    pub(crate) shapes: Vec<usize>,
    /// Device-seconds that a whole device's memory is worth.
    pub(crate) memory_price: f64,
}

/// For each of some prices of memory, few shapes among which every length has one that costs about the least, whatever the
/// makespan. None where there are few shapes anyway.
///
/// A shape is cheap by its device-seconds, or by the memory that it leaves to others: which of the two counts is the same for
/// all sequences of a plan, nearly, so that each price has shapes of its own, and plans of few kinds.
pub(crate) fn shortlists(instance: &Instance<'_>) -> Vec<Shortlist> {
    if !has_many_strategies(instance.problem) {
        return Vec::new();
    }
    let classes = sampled_classes(instance);
    let makespans = makespans(instance);
    let unit = memory_time(instance);
    let shortlists = PRICES.iter().map(|price| {
        let memory_price = price * unit;
        Shortlist {
            shapes: shortlist(instance, &classes, &makespans, memory_price),
            memory_price,
        }
    });
    shortlists.collect()
}

fn sampled_classes(instance: &Instance<'_>) -> Vec<usize> {
    let num = instance.num_classes();
    let spread = (0..num).step_by(num.div_ceil(NUM_LENGTHS));
    let mut classes: Vec<usize> = spread.chain(num.saturating_sub(NUM_LONGEST)..num).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// From one micro-batch for all, or for the longest sequence, down; and the least that holds the longest.
fn makespans(instance: &Instance<'_>) -> Vec<f64> {
    let least = instance.least_makespan() * (1.0 + 1e-3);
    let longest = (1.05 * instance.least_work() / instance.total_speed).max(least);
    let halves = (0..NUM_MAKESPANS).map(|power| longest * 0.5f64.powi(power as i32));
    halves.chain([least]).collect()
}

/// Seconds that a device computes for each time that its memory is filled, in the cheapest shapes; where all sequences fit
/// at once, those of the whole batch.
fn memory_time(instance: &Instance<'_>) -> f64 {
    let share = |class: usize| {
        let shapes = 0..instance.shapes.len();
        let cheapest = shapes
            .filter(|&shape| instance.fits(shape, class))
            .min_by(|&a, &b| instance.work(a, class).total_cmp(&instance.work(b, class)));
        let share = cheapest.map_or(0.0, |shape| {
            f64::from(instance.shapes[shape].degree) * instance.share(shape, class)
        });
        share * instance.members(class).len() as f64
    };
    let shares: f64 = (0..instance.num_classes()).map(share).sum();
    let num_devices = f64::from(instance.problem.cluster.num_devices());
    instance.least_work() / instance.total_speed / (shares / num_devices).max(1.0)
}

/// The fewest shapes that a greedy choice finds: each time the one that is cheap for most of what is left.
fn shortlist(
    instance: &Instance<'_>,
    classes: &[usize],
    makespans: &[f64],
    price: f64,
) -> Vec<usize> {
    let num_shapes = instance.shapes.len();
    // Of each shape, a bit for every length and makespan that it is cheap for.
    let mut cheap_for =
        vec![vec![0u64; (classes.len() * makespans.len()).div_ceil(64)]; num_shapes];
    let mut left = cheap_for[0].clone();
    let mut costs = vec![(f64::INFINITY, f64::INFINITY); num_shapes];
    let mut bit = 0;
    for &class in classes {
        for (shape, cost) in costs.iter_mut().enumerate() {
            let time = instance.time(shape, class);
            let degree = f64::from(instance.shapes[shape].degree);
            *cost = match instance.fits(shape, class) {
                true => (time, degree * (time + price * instance.share(shape, class))),
                false => (f64::INFINITY, f64::INFINITY),
            };
        }
        for &makespan in makespans {
            let in_time = costs.iter().filter(|(time, _)| *time <= makespan);
            let least = in_time.map(|&(_, cost)| cost).fold(f64::INFINITY, f64::min);
            if least == f64::INFINITY {
                continue;
            }
            for (shape, &(time, cost)) in costs.iter().enumerate() {
                if time <= makespan && cost <= least * (1.0 + TOLERANCE) {
                    cheap_for[shape][bit / 64] |= 1 << (bit % 64);
                }
            }
            left[bit / 64] |= 1 << (bit % 64);
            bit += 1;
        }
    }
    let mut chosen = Vec::new();
    while left.iter().any(|&word| word != 0) {
        let num_left = |shape: &usize| -> u32 {
            let words = cheap_for[*shape].iter().zip(&left);
            words.map(|(cheap, left)| (cheap & left).count_ones()).sum()
        };
        let Some(best) = (0..num_shapes).max_by_key(|shape| (num_left(shape), Reverse(*shape)))
        else {
            break;
        };
        for (left, cheap) in left.iter_mut().zip(&cheap_for[best]) {
            *left &= !cheap;
        }
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, GlobalBatch, PlanRules, StrategyFamily};
    use lengthwise_cost::{AnalyticModel, Hardware, ModelKind};

    use super::*;
    use crate::common::{Case, recorded_lens};

    /// A recorded batch for a known model on 64 devices.
    fn case(
        num_sequences: usize,
        families: &[StrategyFamily],
        activations: &[Activations],
    ) -> Case {
        let architecture = ModelKind::Llama3With8B.architecture(384 << 10);
        let analytic = AnalyticModel::new(architecture, Hardware::named("h100-8x8").unwrap());
        let lens = recorded_lens("github_synth_384k_7b_0");
        Case {
            batch: GlobalBatch::from_lens(lens.into_iter().take(num_sequences)).unwrap(),
            cluster: analytic.cluster().unwrap(),
            cost: analytic.model().unwrap(),
            space: analytic.space_of(families, activations, None).unwrap(),
            rules: PlanRules::default(),
        }
    }

    #[test]
    fn every_length_has_a_cheap_shape_whatever_the_makespan() {
        let case = case(512, &StrategyFamily::ALL, &Activations::ALL);
        let instance = Instance::new(case.problem()).unwrap();
        let unit = memory_time(&instance);
        assert_eq!(instance.shortlists.len(), PRICES.len());
        for (shortlist, price) in instance.shortlists.iter().zip(PRICES) {
            let shapes = &shortlist.shapes;
            assert!(shapes.is_sorted() && 4 * shapes.len() < instance.shapes.len());
            assert_eq!(shortlist.memory_price, price * unit);
            for class in sampled_classes(&instance) {
                for makespan in makespans(&instance) {
                    let least = |shapes: &mut dyn Iterator<Item = usize>| {
                        let shapes = shapes.filter(|&shape| {
                            instance.fits(shape, class) && instance.time(shape, class) <= makespan
                        });
                        let cost = |shape| {
                            let seconds = instance.time(shape, class)
                                + price * unit * instance.share(shape, class);
                            f64::from(instance.shapes[shape].degree) * seconds
                        };
                        shapes.map(cost).fold(f64::INFINITY, f64::min)
                    };
                    let of_all = least(&mut (0..instance.shapes.len()));
                    let of_list = least(&mut shapes.iter().copied());
                    assert!(
                        of_list <= of_all * (1.0 + TOLERANCE),
                        "{of_list} and {of_all}"
                    );
                }
            }
        }
    }

    #[test]
    fn few_strategies_and_those_of_one_choice_for_activations_are_all_searched() {
        for (num_sequences, families, activations) in [
            (4, &StrategyFamily::ALL[..], &Activations::ALL[..]),
            (512, &StrategyFamily::ALL, &[Activations::Recompute]),
        ] {
            let case = case(num_sequences, families, activations);
            let instance = Instance::new(case.problem()).unwrap();
            assert!(instance.shortlists.is_empty());
        }
    }
}
