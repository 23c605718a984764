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
            for class in merged[0]..merged[1] {
                let members = instance.members(class).len() as f64;
                count += members;
                time_sum += instance.time(shape, class) * members;
                memory_sum += instance.memory(shape, class) as f64 * members;
            }
            time.push(time_sum / count);
            memory.push((memory_sum / count) as u64);
        }
    }
    instance.with_classes(&starts, time, memory, tokens)
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
