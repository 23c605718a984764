//! Cutting micro-batches in two until virtual pipeline stages can share them out.

use super::limit::MegatronLimit;
use super::ranks::{RankGroup, listed_degrees, num_busy};

/// Cuts micro-batches in two until their number is a multiple of `multiple_of`: the last first, each at most once before
/// the others had their turn.
///
/// # Errors
///
/// No micro-batch is left with two groups, or a half can't be spread over all ranks.
pub(super) fn align(
    micro_batches: &mut Vec<Vec<RankGroup>>,
    multiple_of: u32,
    num_ranks: u32,
) -> Result<(), MegatronLimit> {
    let multiple = multiple_of as usize;
    let num_asked_for = micro_batches.len().next_multiple_of(multiple);
    while micro_batches.len() < num_asked_for {
        let num_before = micro_batches.len();
        for index in (0..num_before).rev() {
            if micro_batches.len() == num_asked_for {
                break;
            }
            if micro_batches[index].len() > 1 {
                let (head, tail) = cut(&micro_batches[index], num_ranks)?;
                micro_batches[index] = tail;
                micro_batches.push(head);
            }
        }
        if micro_batches.len() == num_before {
            return Err(MegatronLimit::TooFewGroups {
                num_micro_batches: num_before,
                multiple_of,
            });
        }
    }
    Ok(())
}

/// The groups up to the middle of the ranks, and those after it; each part is spread over all ranks.
fn cut(
    groups: &[RankGroup],
    num_ranks: u32,
) -> Result<(Vec<RankGroup>, Vec<RankGroup>), MegatronLimit> {
    if !groups.is_sorted_by(|before, after| before.degree >= after.degree) {
        return Err(MegatronLimit::RisingDegrees {
            degrees: listed_degrees(groups),
        });
    }
    let mut end = 0;
    let reaches_middle = |group: &RankGroup| {
        end += group.degree;
        end >= num_ranks / 2
    };
    // As degrees do not rise, there are groups after the middle.
    let last = groups.iter().position(reaches_middle).unwrap_or(0);
    let (head, tail) = groups.split_at(last + 1);
    Ok((spread(head, num_ranks)?, spread(tail, num_ranks)?))
}

/// Doubles groups until all ranks are busy: that after the last one with more ranks than its successor, or the first.
fn spread(groups: &[RankGroup], num_ranks: u32) -> Result<Vec<RankGroup>, MegatronLimit> {
    let mut groups = groups.to_vec();
    loop {
        let idle = num_ranks - num_busy(&groups);
        if idle == 0 {
            return Ok(groups);
        }
        let falls = groups
            .windows(2)
            .rposition(|pair| pair[0].degree > pair[1].degree);
        let doubled = falls.map_or(0, |before| before + 1);
        let added = groups[doubled].degree;
        if added > idle {
            return Err(MegatronLimit::RanksLeftOver {
                num_ranks,
                degrees: listed_degrees(&groups),
            });
        }
        groups[doubled].degree += added;
    }
}
