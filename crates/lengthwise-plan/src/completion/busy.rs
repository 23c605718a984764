//! Degrees for the groups of a micro-batch that leave no rank idle.

use super::bundle::{Bundle, Choice};
use super::exact_sum::{exact_sum, slowest_at_best};
use crate::instance::Instance;

/// Groups that have all ranks of a micro-batch, and its makespan at nominal speed.
#[derive(Clone, Debug)]
pub(super) struct Busy {
    pub(super) makespan: f64,
    pub(super) groups: Vec<(Bundle, Choice)>,
}

/// The sequences of a micro-batch in groups that have all its ranks, with about the shortest makespan; `None` where there are
/// too few sequences.
///
/// Groups grow, or are split in two, the slowest first. Which of them grow follows from all degrees that each may have.
pub(super) fn busy(instance: &Instance<'_>, bundles: &[Bundle]) -> Option<Busy> {
    if let Some(busy) = already_busy(instance, bundles) {
        return Some(busy);
    }
    let num_ranks = instance.problem.cluster.num_devices();
    let mut bundles = bundles.to_vec();
    let mut choices: Vec<Vec<Choice>> = bundles
        .iter()
        .map(|bundle| bundle.choices(instance))
        .collect();
    let mut best: Option<Busy> = None;
    let mut next_look = 0;
    for num_splits in 0.. {
        let is_last = num_splits > 0 && !split_slowest(instance, &mut bundles, &mut choices);
        if num_splits >= next_look || is_last || best.is_none() {
            let least = choices.iter().map(|choices| choices.first());
            let least: Option<u32> = least.map(|least| Some(least?.degree)).sum();
            if least? > num_ranks {
                break;
            }
            let limit = best.as_ref().map_or(f64::INFINITY, |best| best.makespan);
            if let Some((makespan, chosen)) = exact_sum(&choices, num_ranks, limit) {
                let groups = bundles.iter().cloned().zip(chosen).collect();
                best = Some(Busy { makespan, groups });
            }
            // A single sequence that decides when the micro-batch ends no split makes any faster.
            if let Some(best) = &best
                && best.makespan <= slowest_sequence(&bundles, &choices)
            {
                break;
            }
            next_look = num_splits * 2;
        }
        if is_last {
            break;
        }
    }
    best
}

/// The least time of the slowest single sequence.
fn slowest_sequence(bundles: &[Bundle], choices: &[Vec<Choice>]) -> f64 {
    let single = bundles.iter().zip(choices);
    let single = single.filter(|(bundle, _)| bundle.num_sequences() == 1);
    slowest_at_best(single.map(|(_, choices)| choices))
}

/// Groups that have all ranks as they are.
fn already_busy(instance: &Instance<'_>, bundles: &[Bundle]) -> Option<Busy> {
    let groups = bundles.iter().map(|bundle| {
        let choice = bundle.choice(instance, bundle.shape?);
        Some((bundle, choice))
    });
    let groups: Vec<(&Bundle, Choice)> = groups.collect::<Option<_>>()?;
    let ranks: u32 = groups.iter().map(|(_, choice)| choice.degree).sum();
    let times = groups.iter().map(|(_, choice)| choice.time);
    let makespan = times.fold(0.0, f64::max);
    (ranks == instance.problem.cluster.num_devices()).then(|| Busy {
        makespan,
        groups: groups
            .into_iter()
            .map(|(bundle, choice)| (bundle.clone(), choice))
            .collect(),
    })
}

/// Splits the slowest bundle of several sequences in two; `false` where there is none.
fn split_slowest(
    instance: &Instance<'_>,
    bundles: &mut Vec<Bundle>,
    choices: &mut Vec<Vec<Choice>>,
) -> bool {
    let time = |&index: &usize| choices[index].first().map_or(f64::INFINITY, |c| c.time);
    let several = (0..bundles.len()).filter(|&index| bundles[index].num_sequences() > 1);
    let Some(slowest) = several.max_by(|a, b| time(a).total_cmp(&time(b))) else {
        return false;
    };
    let Some([first, second]) = bundles[slowest].halves(instance) else {
        return false;
    };
    choices[slowest] = first.choices(instance);
    choices.push(second.choices(instance));
    bundles[slowest] = first;
    bundles.push(second);
    true
}

#[cfg(test)]
mod tests {
    use lengthwise_core::PlanRules;

    use super::super::bundle::tests::SIZE;
    use super::*;
    use crate::adaptive::Random;
    use crate::common::{Case, cases, sample};

    /// All of the batch in so many bundles at random, on a cluster where no rank may idle.
    fn random_bundles(instance: &Instance<'_>, random: &mut Random) -> Vec<Bundle> {
        let num = random.below(4) + 1;
        let mut bundles = vec![Bundle::empty(instance); num];
        for class in 0..instance.num_classes() {
            for _ in instance.members(class) {
                bundles[random.below(num)].add(instance, class as u32, 1);
            }
        }
        bundles.retain(|bundle| !bundle.content.is_empty());
        bundles
    }

    fn content(instance: &Instance<'_>, bundles: &[Bundle]) -> Vec<(u32, u32)> {
        let mut all = Bundle::empty(instance);
        for &(class, count) in bundles.iter().flat_map(|bundle| &bundle.content) {
            all.add(instance, class, count);
        }
        all.content
    }

    fn each_problem(seed: u8, mut check: impl FnMut(&Instance<'_>, &mut Random)) {
        for (index, case) in sample(cases(SIZE), seed, 400).enumerate() {
            let rules = PlanRules {
                no_idle_ranks: true,
                ..PlanRules::default()
            };
            let case = Case { rules, ..case };
            if let Ok(instance) = Instance::new(case.problem()) {
                check(&instance, &mut Random::new(index));
            }
        }
    }

    #[test]
    fn busy_groups_hold_the_same_on_all_ranks_and_end_with_the_slowest() {
        let (mut num_busy, mut num_split, mut num_kept) = (0, 0, 0);
        each_problem(100, |instance, random| {
            let bundles = random_bundles(instance, random);
            let num_ranks = instance.problem.cluster.num_devices();
            let Some(busy) = busy(instance, &bundles) else {
                return;
            };
            num_busy += 1;
            num_split += usize::from(busy.groups.len() > bundles.len());
            let groups: Vec<Bundle> = busy.groups.iter().map(|(group, _)| group.clone()).collect();
            assert_eq!(content(instance, &groups), content(instance, &bundles));
            let degrees = busy.groups.iter().map(|(_, choice)| choice.degree);
            assert_eq!(degrees.sum::<u32>(), num_ranks);
            let mut slowest = 0.0f64;
            for (bundle, choice) in &busy.groups {
                assert!(bundle.fits(instance, choice.shape));
                assert_eq!(choice.degree, instance.shapes[choice.shape].degree);
                assert_eq!(choice.time, bundle.time(choice.shape));
                slowest = slowest.max(choice.time);
            }
            assert!(slowest <= busy.makespan && busy.makespan <= slowest * (1.0 + 1e-9));
            // No slower than without any split.
            let choices: Vec<Vec<Choice>> = bundles
                .iter()
                .map(|bundle| bundle.choices(instance))
                .collect();
            if let Some((unsplit, _)) = exact_sum(&choices, num_ranks, f64::INFINITY) {
                assert!(busy.makespan <= unsplit);
            }
            // Groups that have all ranks stay as they are.
            let shaped: Vec<Bundle> = busy
                .groups
                .iter()
                .map(|(bundle, choice)| {
                    let mut bundle = bundle.clone();
                    bundle.shape = Some(choice.shape);
                    bundle
                })
                .collect();
            let again = super::busy(instance, &shaped).expect("they are busy");
            let shapes = |busy: &Busy| -> Vec<usize> {
                busy.groups.iter().map(|(_, choice)| choice.shape).collect()
            };
            assert_eq!(shapes(&again), shapes(&busy));
            assert_eq!(again.makespan, slowest);
            num_kept += 1;
        });
        assert!(num_busy > 100 && num_split > 20 && num_kept == num_busy);
    }

    #[test]
    fn single_sequences_get_the_degrees_that_end_first() {
        let mut num_found = 0;
        each_problem(101, |instance, random| {
            let mut singles = Vec::new();
            for _ in 0..random.below(5) + 1 {
                let class = random.below(instance.num_classes()) as u32;
                singles.push(Bundle::of(instance, &[(class, 1)]));
            }
            let choices: Vec<Vec<Choice>> = singles
                .iter()
                .map(|bundle| bundle.choices(instance))
                .collect();
            let num_ranks = instance.problem.cluster.num_devices();
            let best = exact_sum(&choices, num_ranks, f64::INFINITY);
            let found = busy(instance, &singles);
            num_found += usize::from(found.is_some());
            assert_eq!(found.map(|busy| busy.makespan), best.map(|best| best.0));
        });
        assert!(num_found > 50, "{num_found}");
    }

    #[test]
    fn the_slowest_bundle_of_several_is_split() {
        each_problem(102, |instance, random| {
            let mut bundles = random_bundles(instance, random);
            let mut choices: Vec<Vec<Choice>> = bundles
                .iter()
                .map(|bundle| bundle.choices(instance))
                .collect();
            let before = bundles.clone();
            let time = |bundle: &Bundle| {
                bundle
                    .choices(instance)
                    .first()
                    .map_or(f64::INFINITY, |choice| choice.time)
            };
            let several = before.iter().filter(|bundle| bundle.num_sequences() > 1);
            let slowest = several.map(time).max_by(f64::total_cmp);
            let is_split = split_slowest(instance, &mut bundles, &mut choices);
            assert_eq!(is_split, slowest.is_some());
            assert_eq!(bundles.len(), before.len() + usize::from(is_split));
            assert_eq!(content(instance, &bundles), content(instance, &before));
            for (bundle, choices) in bundles.iter().zip(&choices) {
                let expected = bundle.choices(instance);
                assert_eq!(choices.len(), expected.len());
                assert!(choices.iter().zip(expected).all(|(a, b)| a.time == b.time));
            }
            if let Some(slowest) = slowest {
                let changed = before.iter().zip(&bundles);
                let changed = changed.filter(|(before, after)| before.content != after.content);
                let changed: Vec<f64> = changed.map(|(before, _)| time(before)).collect();
                assert_eq!(changed, [slowest]);
            }
        });
    }
}
