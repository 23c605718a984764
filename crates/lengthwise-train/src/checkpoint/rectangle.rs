//! A flat range of a parameter as rectangles, which is how PyTorch's distributed checkpoints describe parts.

use std::ops::Range;

/// A part of a parameter that is a rectangle of it and a run of its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Of its first element, in each dimension.
    pub offsets: Vec<usize>,
    /// In each dimension.
    pub shape: Vec<usize>,
    /// Its elements, in row-major order.
    pub elements: Range<usize>,
}

/// The rectangles that a range of a parameter's elements consists of: what is left of a begun row, whole rows, and the
/// beginning of a row. At most three, none of them empty.
pub fn rectangles(shape: &[usize], range: Range<usize>) -> Vec<Rectangle> {
    if range.is_empty() {
        return Vec::new();
    }
    let &[_, cols] = shape else {
        return vec![Rectangle {
            offsets: vec![range.start],
            shape: vec![range.len()],
            elements: range,
        }];
    };
    let first_whole = range.start.next_multiple_of(cols).min(range.end);
    let last_whole = (range.end / cols * cols).max(first_whole);
    let parts = [
        range.start..first_whole,
        first_whole..last_whole,
        last_whole..range.end,
    ];
    let rectangle = |part: Range<usize>| Rectangle {
        offsets: vec![part.start / cols, part.start % cols],
        shape: match part.len() % cols {
            0 => vec![part.len() / cols, cols],
            len => vec![1, len],
        },
        elements: part,
    };
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.map(rectangle).collect()
}

/// The elements that a rectangle of a parameter holds, if they are a run of it.
pub fn run_of(shape: &[usize], offsets: &[usize], part: &[usize]) -> Option<Range<usize>> {
    let (start, num_elements) = match (shape, offsets, part) {
        (&[len], &[offset], &[elements]) => {
            (offset.checked_add(elements)? <= len).then_some((offset, elements))?
        }
        (&[rows, cols], &[row, col], &[num_rows, num_cols]) => {
            let fits = row.checked_add(num_rows)? <= rows && col.checked_add(num_cols)? <= cols;
            let is_run = num_rows == 1 || (num_cols == cols && col == 0);
            (fits && is_run).then_some((row * cols + col, num_rows * num_cols))?
        }
        _ => return None,
    };
    Some(start..start + num_elements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rectangles_are_the_range_in_its_order(
            rows in 1usize..7,
            cols in 1usize..7,
            is_vector in any::<bool>(),
            cuts in (0.0..1.0f64, 0.0..1.0f64),
        ) {
            let shape = if is_vector { vec![rows * cols] } else { vec![rows, cols] };
            let len = rows * cols + 1;
            let (a, b) = ((cuts.0 * len as f64) as usize, (cuts.1 * len as f64) as usize);
            let range = a.min(b)..a.max(b);
            let found = rectangles(&shape, range.clone());
            prop_assert!(found.len() <= 3);
            let mut next = range.start;
            for rectangle in &found {
                prop_assert_eq!(rectangle.elements.start, next);
                prop_assert_eq!(rectangle.shape.iter().product::<usize>(), rectangle.elements.len());
                let run = run_of(&shape, &rectangle.offsets, &rectangle.shape);
                prop_assert_eq!(run, Some(rectangle.elements.clone()));
                next = rectangle.elements.end;
            }
            prop_assert_eq!(next, range.end.max(range.start));
        }
    }

    #[test]
    fn what_is_no_run_of_a_parameter_is_none() {
        assert_eq!(run_of(&[4, 5], &[0, 0], &[2, 5]), Some(0..10));
        for (offsets, part) in [
            (vec![0, 0], vec![2, 4]),
            (vec![0, 1], vec![2, 5]),
            (vec![3, 0], vec![2, 5]),
            (vec![0], vec![5]),
            (vec![usize::MAX, 0], vec![2, 5]),
        ] {
            assert_eq!(
                run_of(&[4, 5], &offsets, &part),
                None,
                "{offsets:?} {part:?}"
            );
        }
    }
}
