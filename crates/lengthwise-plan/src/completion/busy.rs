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
