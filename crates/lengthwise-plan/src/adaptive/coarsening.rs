//! Coarsening: a smaller problem to search for makespans in.

use crate::instance::Instance;

/// Lengths up to so many times the shortest of their class are merged.
const RATIO: f64 = 1.05;

/// So many of the longest sequences are not merged: they decide makespans.
const NUM_LONGEST: usize = 24;

/// The problem with similar lengths merged, so that drafts of it are made quickly.
///
/// All lengths of a class fit the same shapes and cost their mean, so that makespans that hold the coarse instance nearly
/// hold the problem itself. Its drafts are no plans.
pub(crate) fn coarsened<'p>(instance: &Instance<'p>) -> Instance<'p> {
    let starts = class_starts(instance);
    let num_classes = starts.len() - 1;
    let mut time = Vec::with_capacity(instance.shapes.len() * num_classes);
    let mut memory = Vec::with_capacity(instance.shapes.len() * num_classes);
    let mut host = Vec::new();
    let mut tokens = Vec::with_capacity(num_classes);
    for merged in starts.windows(2) {
        let classes = merged[0]..merged[1];
        let members = |class: usize| instance.members(class).len() as f64;
        let sum: f64 = classes
            .clone()
            .map(|class| instance.tokens()[class] as f64 * members(class))
            .sum();
        tokens.push((sum / classes.map(members).sum::<f64>()) as u64);
    }
    for shape in 0..instance.shapes.len() {
        for merged in starts.windows(2) {
            let (mut count, mut time_sum, mut memory_sum) = (0.0, 0.0, 0.0);
            let mut host_sum = 0.0;
            let hosts = instance.hosts(shape);
            for class in merged[0]..merged[1] {
                let members = instance.members(class).len() as f64;
                count += members;
                time_sum += instance.time(shape, class) * members;
                memory_sum += instance.memory(shape, class) as f64 * members;
                host_sum += hosts.get(class).map_or(0.0, |&host| host as f64 * members);
            }
            time.push(time_sum / count);
            memory.push((memory_sum / count) as u64);
            host.extend((!hosts.is_empty()).then_some((host_sum / count) as u64));
        }
    }
    instance.with_classes(&starts, time, memory, host, tokens)
}

/// The first class of each merged one, then the number of classes.
fn class_starts(instance: &Instance<'_>) -> Vec<usize> {
    let num_merged = instance.num_sequences().saturating_sub(NUM_LONGEST);
    let shapes = 0..instance.shapes.len();
    let num_fitting = |class| {
        shapes
            .clone()
            .filter(|&shape| instance.fits(shape, class))
            .count()
    };
    let mut starts = vec![0];
    let mut first = (instance.class_lens[0].as_f64(), num_fitting(0));
    let mut position = 0;
    for class in 1..instance.num_classes() {
        position += instance.members(class - 1).len();
        let (len, num_fitting) = (instance.class_lens[class].as_f64(), num_fitting(class));
        if position >= num_merged || len > first.0 * RATIO || num_fitting != first.1 {
            starts.push(class);
            first = (len, num_fitting);
        }
    }
    starts.push(instance.num_classes());
    starts
}

#[cfg(test)]
mod tests {
    use lengthwise_core::SequenceIndex;

    use super::*;
    use crate::common::few::few_sequences;
    use crate::common::{Case, Size, cases, sample};

    /// Problems of dozens of sequences, many of them of similar lengths.
    fn problems(seed: u8) -> impl Iterator<Item = Case> {
        let size = Size {
            num_nodes: 2,
            devices_per_node: 4,
            num_sequences: 200,
            seq_len: 60_000,
        };
        sample(cases(size), seed, 60).chain(sample(few_sequences(20..=200), seed, 40))
    }

    fn members(instance: &Instance<'_>) -> Vec<SequenceIndex> {
        let classes = 0..instance.num_classes();
        classes
            .flat_map(|class| instance.members(class).to_vec())
            .collect()
    }

    fn fitting(instance: &Instance<'_>, class: usize) -> Vec<usize> {
        let shapes = 0..instance.shapes.len();
        shapes
            .filter(|&shape| instance.fits(shape, class))
            .collect()
    }

    #[test]
    fn classes_are_merged_as_far_as_lengths_shapes_and_the_longest_allow() {
        let mut num_merged = 0;
        for case in problems(80) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let starts = class_starts(&instance);
            assert_eq!(
                (starts[0], starts.last()),
                (0, Some(&instance.num_classes()))
            );
            assert!(starts.is_sorted_by(|a, b| a < b));
            let num_before = |class: usize| -> usize {
                (0..class).map(|class| instance.members(class).len()).sum()
            };
            let is_long = |class| num_before(class) + NUM_LONGEST >= instance.num_sequences();
            let may_join = |class: usize, first: usize| {
                let [len, shortest] =
                    [class, first].map(|class| instance.class_lens[class].as_f64());
                !is_long(class)
                    && len <= shortest * RATIO
                    && fitting(&instance, class) == fitting(&instance, first)
            };
            for merged in starts.windows(2) {
                num_merged += merged[1] - merged[0] - 1;
                assert!((merged[0] + 1..merged[1]).all(|class| may_join(class, merged[0])));
                assert!(merged[1] == instance.num_classes() || !may_join(merged[1], merged[0]));
            }
        }
        assert!(num_merged > 500, "{num_merged}");
    }

    #[test]
    fn a_merged_class_costs_the_mean_of_its_sequences() {
        for case in problems(81) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let coarse = coarsened(&instance);
            assert_eq!(members(&coarse), members(&instance));
            assert_eq!(coarse.num_sequences(), instance.num_sequences());
            let class_of = |sequence| {
                (0..instance.num_classes())
                    .find(|&class| instance.members(class).contains(&sequence))
                    .expect("each sequence is of some class")
            };
            for merged in 0..coarse.num_classes() {
                let classes: Vec<usize> = coarse
                    .members(merged)
                    .iter()
                    .map(|&one| class_of(one))
                    .collect();
                let mean = |figure: &dyn Fn(usize) -> f64| {
                    classes.iter().map(|&class| figure(class)).sum::<f64>() / classes.len() as f64
                };
                assert_eq!(coarse.class_lens[merged], instance.class_lens[classes[0]]);
                let tokens = mean(&|class| instance.tokens()[class] as f64);
                assert!((coarse.tokens()[merged] as f64 - tokens).abs() <= 1.0 + 1e-9 * tokens);
                for shape in 0..instance.shapes.len() {
                    let time = mean(&|class| instance.time(shape, class));
                    assert!((coarse.time(shape, merged) - time).abs() <= 1e-9 * time);
                    let memory = mean(&|class| instance.memory(shape, class) as f64);
                    let rounded = coarse.memory(shape, merged) as f64;
                    assert!((rounded - memory).abs() <= 1.0 + 1e-9 * memory);
                    assert_eq!(coarse.fits(shape, merged), instance.fits(shape, classes[0]));
                }
            }
        }
    }
}
