//! Free runs of ranks that begin at multiples of their length, as a buddy allocator keeps them.
//!
//! ```text
//! 12 ranks: 8 and 4 free; a group of 2 leaves          | 8 8 8 8 8 8 8 8 | g g 2 2 |
//! ```
//!
//! From a smallest run that is large enough, no request fails for which there are ranks enough: as nothing is given back, runs
//! of the same length never come to be two, so that those shorter than `d` have fewer than `d` ranks together.

/// Runs of `2^order` ranks, by order: where they begin.
#[derive(Clone)]
pub(crate) struct FreeRuns {
    starts: Vec<Vec<u32>>,
}

impl FreeRuns {
    /// All of `num_ranks` ranks.
    pub(crate) fn all(num_ranks: u32) -> Self {
        let largest = num_ranks.checked_ilog2().unwrap_or(0);
        let mut starts = vec![Vec::new(); largest as usize + 1];
        let mut next = 0;
        for order in (0..=largest).rev() {
            if num_ranks - next >= 1 << order {
                starts[order as usize].push(next);
                next += 1 << order;
            }
        }
        FreeRuns { starts }
    }

    /// Where groups of `degree`, a power of two, can begin, those in the smallest free runs first: the length of the free
    /// run and the first rank.
    pub(crate) fn places(&self, degree: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let order = degree.trailing_zeros() as usize;
        let longer = self.starts.iter().enumerate().skip(order);
        longer.flat_map(move |(order, starts)| {
            let len = 1u32 << order;
            let inside = starts
                .iter()
                .flat_map(move |&start| (start..start + len).step_by(degree as usize));
            inside.map(move |first| (len, first))
        })
    }

    /// Takes a run that is free.
    pub(crate) fn take(&mut self, first: u32, degree: u32) {
        let order = degree.trailing_zeros() as usize;
        for larger in order..self.starts.len() {
            let around = first & !((1 << larger) - 1);
            let Some(position) = self.starts[larger]
                .iter()
                .position(|&start| start == around)
            else {
                continue;
            };
            self.starts[larger].swap_remove(position);
            // The halves that the group is not in stay free.
            for half in (order..larger).rev() {
                let with_group = first & !((1 << half) - 1);
                self.starts[half].push(with_group ^ (1 << half));
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_there_are_ranks_for_finds_a_run(num_ranks in 1u32..300, orders in vec(0u32..8, 1..80)) {
            let mut free = FreeRuns::all(num_ranks);
            let mut is_taken = vec![false; num_ranks as usize];
            let mut left = num_ranks;
            for degree in orders.into_iter().map(|order| 1 << order) {
                let place = free.places(degree).next();
                prop_assert_eq!(place.is_some(), degree <= left, "{} of {}", degree, left);
                if let Some((_, first)) = place {
                    prop_assert_eq!(first % degree, 0);
                    for rank in first..first + degree {
                        prop_assert!(!std::mem::replace(&mut is_taken[rank as usize], true));
                    }
                    free.take(first, degree);
                    left -= degree;
                }
            }
        }
    }
}
