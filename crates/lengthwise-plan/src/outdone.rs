//! Strategies that are never a better choice than another one.

use std::ops::Range;

use crate::instance::Shape;

/// Which shapes are of strategies that another one of the same degree outdoes: that takes no more time and memory for any
/// class, wherever the group is, and less of something, or comes first.
///
/// A plan stays one, and takes no longer, where such a strategy gives way to the other in any of its groups; so neither
/// searches nor bounds need to know of it.
pub(crate) fn outdone(
    shapes: &[Shape],
    time: &[f64],
    memories: &[&[u64]],
    num_classes: usize,
) -> Vec<bool> {
    let mut strategies: Vec<Range<usize>> = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        match strategies.last_mut() {
            Some(last) if shapes[last.start].strategy == shape.strategy => last.end = index + 1,
            _ => strategies.push(index..index + 1),
        }
    }
    let row = |shape: usize| shape * num_classes..(shape + 1) * num_classes;
    // Whether the first takes no more than the second, and whether it takes less of something.
    let no_more = |this: usize, that: usize| -> Option<bool> {
        let mut is_less = false;
        let times = time[row(this)].iter().zip(&time[row(that)]);
        for (this, that) in times.rev() {
            if this > that {
                return None;
            }
            is_less |= this < that;
        }
        for memory in memories.iter().filter(|memory| !memory.is_empty()) {
            let memories = memory[row(this)].iter().zip(&memory[row(that)]);
            for (this, that) in memories.rev() {
                if this > that {
                    return None;
                }
                is_less |= this < that;
            }
        }
        Some(is_less)
    };
    let outdoes = |this: &Range<usize>, that: &Range<usize>| {
        let mut is_less = false;
        for shape in that.clone() {
            let alike = this
                .clone()
                .find(|&other| shapes[other].span == shapes[shape].span);
            match alike.and_then(|other| no_more(other, shape)) {
                Some(less) => is_less |= less,
                None => return false,
            }
        }
        is_less || this.start < that.start
    };
    let mut is_outdone = vec![false; shapes.len()];
    let of_one_degree =
        strategies.chunk_by(|a, b| shapes[a.start].degree == shapes[b.start].degree);
    for strategies in of_one_degree {
        for (index, that) in strategies.iter().enumerate() {
            let mut others = strategies
                .iter()
                .enumerate()
                .filter(|&(other, this)| other != index && !is_outdone[this.start]);
            if others.any(|(_, this)| outdoes(this, that)) {
                is_outdone[that.clone()].fill(true);
            }
        }
    }
    is_outdone
}
