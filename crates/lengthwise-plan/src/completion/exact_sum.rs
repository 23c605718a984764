//! One choice for each group, so that their degrees add up to all ranks and the slowest takes least.

use super::bundle::Choice;

/// Sets of sums from 0 to a most, as bits.
#[derive(Clone)]
struct Sums {
    words: Vec<u64>,
    most: usize,
}

impl Sums {
    /// Nothing but 0.
    fn zero(most: usize) -> Self {
        let mut words = vec![0; most / 64 + 1];
        words[0] = 1;
        Sums { words, most }
    }

    /// The sums with one of several addends.
    fn plus(&self, addends: impl Iterator<Item = usize>) -> Self {
        let mut words = vec![0; self.words.len()];
        for addend in addends {
            let (skipped, shift) = (addend / 64, addend % 64);
            let mut carried = 0;
            for (word, &before) in words.iter_mut().skip(skipped).zip(&self.words) {
                *word |= before << shift | carried;
                carried = before.checked_shr(64 - shift as u32).unwrap_or(0);
            }
        }
        // Nothing beyond the most, so that emptiness can be told.
        let unused = words.len() * 64 - 1 - self.most;
        if let Some(last) = words.last_mut() {
            *last &= u64::MAX >> unused;
        }
        Sums {
            words,
            most: self.most,
        }
    }

    fn has(&self, sum: usize) -> bool {
        self.words[sum / 64] >> (sum % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

/// The least time below `limit` within which some choices add up to `sum`, and the choices; `None` where none do.
///
/// Whether choices that take no longer than some time add up is a subset sum over bits; the least such time is found by
/// halving the times there are.
pub(super) fn exact_sum(
    choices: &[Vec<Choice>],
    sum: u32,
    limit: f64,
) -> Option<(f64, Vec<Choice>)> {
    let sum = sum as usize;
    let most: usize = choices
        .iter()
        .map(|all| all.last().map_or(0, |c| c.degree as usize))
        .sum();
    if most < sum {
        return None;
    }
    let least = slowest_at_best(choices.iter());
    if least >= limit {
        return None;
    }
    let times = choices.iter().flatten().map(|choice| choice.time);
    let times = times.filter(|&time| time >= least && time < limit);
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let (mut low, mut high) = (0, times.len());
    let mut best: Option<Vec<Sums>> = None;
    // Often the slowest group decides, whatever the others have.
    let mut middle = 0;
    while low < high {
        match sums_within(choices, sum, times[middle]) {
            Some(sums) => {
                best = Some(sums);
                high = middle;
            }
            None => low = middle + 1,
        }
        middle = (low + high) / 2;
    }
    let time = *times.get(low)?;
    let sums = best?;
    let mut left = sum;
    let mut chosen = Vec::with_capacity(choices.len());
    for (all, before) in choices.iter().zip(&sums).rev() {
        let mut within = all.iter().filter(|choice| choice.time <= time);
        let choice = within.find(|choice| {
            let before_it = left.checked_sub(choice.degree as usize);
            before_it.is_some_and(|rest| before.has(rest))
        })?;
        left -= choice.degree as usize;
        chosen.push(*choice);
    }
    chosen.reverse();
    Some((time, chosen))
}

/// The least time of the slowest group: that of its fastest choice.
pub(super) fn slowest_at_best<'a>(choices: impl Iterator<Item = &'a Vec<Choice>>) -> f64 {
    let fastest = |all: &Vec<Choice>| all.iter().map(|c| c.time).fold(f64::INFINITY, f64::min);
    choices.map(fastest).fold(0.0, f64::max)
}

/// The sums before each group, by choices that take no longer than `time`; `None` where they don't come to `sum`.
fn sums_within(choices: &[Vec<Choice>], sum: usize, time: f64) -> Option<Vec<Sums>> {
    let mut before = Vec::with_capacity(choices.len());
    let mut sums = Sums::zero(sum);
    for all in choices {
        let within = all.iter().filter(|choice| choice.time <= time);
        let next = sums.plus(within.map(|choice| choice.degree as usize));
        if next.is_empty() {
            return None;
        }
        before.push(std::mem::replace(&mut sums, next));
    }
    sums.has(sum).then_some(before)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The least time by trying everything.
    fn least(choices: &[Vec<Choice>], sum: u32) -> Option<f64> {
        let Some((first, rest)) = choices.split_first() else {
            return (sum == 0).then_some(0.0);
        };
        let with = |choice: &Choice| {
            let rest = least(rest, sum.checked_sub(choice.degree)?)?;
            Some(rest.max(choice.time))
        };
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn choices_add_up_and_the_slowest_takes_least(
            groups in vec(vec((1u32..90, 0u8..6), 1..4), 1..6),
            sum in 1u32..200,
            limit in 1u8..8,
        ) {
            let choices: Vec<Vec<Choice>> = groups
                .into_iter()
                .map(|mut all| {
                    all.sort_unstable();
                    let choice = |(degree, time)| Choice { degree, shape: 0, time: f64::from(time) };
                    all.into_iter().map(choice).collect()
                })
                .collect();
            let found = exact_sum(&choices, sum, f64::from(limit));
            let least = least(&choices, sum).filter(|&time| time < f64::from(limit));
            prop_assert_eq!(found.as_ref().map(|found| found.0), least);
            if let Some((time, chosen)) = found {
                prop_assert_eq!(chosen.iter().map(|choice| choice.degree).sum::<u32>(), sum);
                prop_assert!(chosen.iter().all(|choice| choice.time <= time));
            }
        }
    }
}
