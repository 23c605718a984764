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

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(degrees: &[u32], num_ranks: u32) -> Result<(bool, Vec<u32>), MegatronLimit> {
        let mut groups: Vec<RankGroup> = degrees
            .iter()
            .map(|&degree| RankGroup {
                degree,
                sequences: Vec::new(),
            })
            .collect();
        let is_filled = fill(&mut groups, num_ranks)?;
        Ok((is_filled, groups.iter().map(|group| group.degree).collect()))
    }

    #[test]
    fn the_first_of_the_smallest_groups_is_doubled_until_no_rank_idles() {
        for (degrees, num_ranks, expected) in [
            (&[4, 2, 2][..], 8, &[4, 2, 2][..]),
            (&[1], 8, &[8]),
            (&[1, 1], 8, &[4, 4]),
            (&[1, 1, 1], 4, &[2, 1, 1]),
            (&[4, 1, 1], 8, &[4, 2, 2]),
            (&[2, 1, 1], 8, &[4, 2, 2]),
            (&[4, 1], 6, &[4, 2]),
            // The last doubling is cut short at the number of ranks.
            (&[4], 6, &[6]),
        ] {
            let filled = filled(degrees, num_ranks);
            assert_eq!(filled, Ok((true, expected.to_vec())), "{degrees:?}");
        }
    }

    #[test]
    fn a_group_that_would_reach_beyond_the_last_rank_is_not_doubled() {
        assert_eq!(filled(&[4, 2], 7), Ok((false, vec![4, 2])));
        assert_eq!(filled(&[4, 4, 2], 11), Ok((false, vec![4, 4, 2])));
        assert_eq!(filled(&[], 4), Ok((true, vec![])));
    }

    #[test]
    fn a_group_that_could_be_doubled_but_for_those_after_it_is_an_error() {
        for (degrees, num_ranks, listed) in [(&[2, 4][..], 7, "2 + 4"), (&[2, 2], 5, "2 + 2")] {
            let expected = MegatronLimit::RanksLeftOver {
                num_ranks,
                degrees: listed.to_owned(),
            };
            assert_eq!(filled(degrees, num_ranks), Err(expected));
        }
    }
}
