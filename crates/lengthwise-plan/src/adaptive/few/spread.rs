//! Layouts of groups that are all alike, which no makespans lead to: what makes them good is that nothing is left over.

use std::collections::BTreeSet;

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
    let num_groups = (num_groups as usize).min(sequences.len());
    let mut loads = vec![Load::default(); num_groups];
    let mut groups = vec![Vec::new(); num_groups];
    // Times that are not negative order as their bits do.
    let mut by_time: BTreeSet<(u64, usize)> = (0..num_groups).map(|group| (0, group)).collect();
    let mut makespan: f64 = 0.0;
    for &sequence in sequences {
        let load = Load {
            memory: table.memories(sequence)[shape],
            host: 0,
            tokens: table.tokens(sequence),
            sequences: 1,
        };
        let mut by_end = by_time.iter().copied();
        let first = by_end.find(|&(_, group)| table.has_room(shape, loads[group] + load))?;
        by_time.remove(&first);
        let (bits, group) = first;
        let time = f64::from_bits(bits) + table.times(sequence)[shape];
        makespan = makespan.max(time);
        by_time.insert((time.to_bits(), group));
        loads[group] = loads[group] + load;
        groups[group].push(sequence);
    }
    Some((makespan, groups))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_keeps_makespans, each_table};
    use super::*;

    #[test]
    fn even_groups_end_as_early_as_each_sequence_by_itself_allows() {
        each_table(70, 200, |table, _| {
            let all: Vec<usize> = (0..table.sequences.len()).collect();
            for (shape, figures) in table.shapes.iter().enumerate() {
                let on_node = |size: &u32| match figures.span {
                    Span::OneNode => size / figures.degree,
                    Span::ManyNodes => 0,
                };
                let on_nodes: u32 = table.node_sizes.iter().map(on_node).sum();
                let most = match figures.span {
                    Span::OneNode => on_nodes,
                    Span::ManyNodes => table.num_devices / figures.degree,
                };
                let Some((makespan, groups)) = even_groups(table, shape, &all) else {
                    continue;
                };
                assert_eq!(groups.len(), (most as usize).min(all.len()));
                let mut placed: Vec<usize> = groups.iter().flatten().copied().collect();
                placed.sort_unstable();
                assert_eq!(placed, all);
                let time = |group: &Vec<usize>| {
                    group
                        .iter()
                        .map(|&one| table.times(one)[shape])
                        .sum::<f64>()
                };
                let slowest = groups.iter().map(time).fold(0.0, f64::max);
                assert!((slowest - makespan).abs() <= 1e-9 * makespan);
                let load = |group: &Vec<usize>| {
                    let loads = group.iter().map(|&one| Load {
                        host: 0,
                        memory: table.memories(one)[shape],
                        tokens: table.tokens(one),
                        sequences: 1,
                    });
                    loads.fold(Load::default(), |sum, load| sum + load)
                };
                assert!(
                    groups
                        .iter()
                        .all(|group| table.has_room(shape, load(group)))
                );
                let is_tight = all
                    .iter()
                    .any(|&one| 2 * table.memories(one)[shape] > table.budget / all.len() as u64);
                if !is_tight {
                    // List scheduling: the last to end began no later than the others end on average.
                    let total: f64 = groups.iter().map(time).sum();
                    let longest = table.times(0)[shape];
                    assert!(makespan <= total / groups.len() as f64 + longest + 1e-12);
                }
            }
        });
    }

    #[test]
    fn spread_layouts_hold_the_batch_in_so_many_micro_batches() {
        let mut num_spread = 0;
        each_table(71, 200, |table, random| {
            let num = 1 + random.below(3).min(table.sequences.len() - 1);
            if let Some(layout) = spread(table, num) {
                num_spread += 1;
                assert!(layout.micro_batches.len() <= num);
                assert!(layout.is_complete(table));
                assert_keeps_makespans(&layout, table);
                // Each part is no slower than in the best single shape for it.
                let first = layout.step_time(table);
                assert!(first.is_finite());
            }
        });
        assert!(num_spread > 100, "{num_spread}");
    }
}
