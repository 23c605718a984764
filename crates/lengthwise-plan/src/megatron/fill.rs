//! Handing idle ranks to the groups of a micro-batch that was just formed.

use super::limit::MegatronLimit;
use super::ranks::{RankGroup, listed_degrees, num_busy};

/// Doubles the first of the smallest groups again and again, until all ranks are busy; `false` if no group can be doubled
/// without reaching beyond the last rank.
///
/// # Errors
///
/// A group that could be doubled, but not those after it moved up: only where the number of ranks is no power of two.
pub(super) fn fill(groups: &mut [RankGroup], num_ranks: u32) -> Result<bool, MegatronLimit> {
    loop {
        let busy = num_busy(groups);
        let smallest = groups.iter().map(|group| group.degree).min();
        let Some(smallest) = smallest.filter(|_| busy < num_ranks) else {
            return Ok(true);
        };
        let added = smallest.min(num_ranks - smallest);
        let Some(group) = first_with_room(groups, smallest, num_ranks - added) else {
            return Ok(false);
        };
        if added > num_ranks - busy {
            return Err(MegatronLimit::RanksLeftOver {
                num_ranks,
                degrees: listed_degrees(groups),
            });
        }
        groups[group].degree += added;
    }
}

/// The first group of `degree` whose last rank is among the first `ends_by`.
fn first_with_room(groups: &[RankGroup], degree: u32, ends_by: u32) -> Option<usize> {
    let mut end = 0;
    groups.iter().position(|group| {
        end += group.degree;
        group.degree == degree && end <= ends_by
    })
}
