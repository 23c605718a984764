//! Layouts of groups that are all alike, which no makespans lead to: what makes them good is that nothing is left over.

use lengthwise_core::Tokens;
use lengthwise_cost::Span;

use super::layout::Layout;
use super::table::Table;
use crate::balanced_cuts::balanced_cuts;
use crate::load::Load;

/// A layout of `num` micro-batches of about as many tokens, similar lengths together, each with the best single shape.
pub(super) fn spread(table: &Table<'_, '_>, num: usize) -> Option<Layout> {
    let shortest_first: Vec<Tokens> = table
        .sequences
        .iter()
        .rev()
        .map(|sequence| table.instance.class_lens[sequence.class as usize])
        .collect();
    let num_sequences = shortest_first.len();
    let mut layout = Layout::empty(table, &[]);
    for part in balanced_cuts(&shortest_first, num) {
        let longest_first = num_sequences - part.end..num_sequences - part.start;
        let sequences: Vec<usize> = longest_first.collect();
        let spread =
            (0..table.shapes.len()).filter_map(|shape| even_groups(table, shape, &sequences));
        let (makespan, groups) = spread.min_by(|a, b| a.0.total_cmp(&b.0))?;
        layout.push_micro_batch(table, makespan, &groups);
    }
    layout.settled(table)
}

/// Sequences over as many groups of a shape as there are devices for, each to the one that ends first, and when all end;
/// `None` where memory does not allow it.
fn even_groups(
    table: &Table<'_, '_>,
    shape: usize,
    sequences: &[usize],
) -> Option<(f64, Vec<Vec<usize>>)> {
    let degree = table.shapes[shape].degree;
    let num_groups = match table.shapes[shape].span {
        Span::OneNode => table.node_sizes.iter().map(|size| size / degree).sum(),
        Span::ManyNodes => table.num_devices / degree,
    };
    let mut figures = vec![(0.0f64, Load::default()); (num_groups as usize).min(sequences.len())];
    let mut groups = vec![Vec::new(); figures.len()];
    for &sequence in sequences {
        let load = Load {
            memory: table.memories(sequence)[shape],
            tokens: table.tokens(sequence),
            sequences: 1,
        };
        let roomy = figures.iter().enumerate();
        let roomy = roomy.filter(|(_, figures)| table.has_room(shape, figures.1 + load));
        let (first, _) = roomy.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0))?;
        figures[first].0 += table.times(sequence)[shape];
        figures[first].1 = figures[first].1 + load;
        groups[first].push(sequence);
    }
    let makespan = figures.iter().map(|figures| figures.0).fold(0.0, f64::max);
    Some((makespan, groups))
}
