//! More or fewer micro-batches.

use std::cmp::Reverse;

use super::bundle::Bundle;
use super::{Bay, within_rules};
use crate::instance::Instance;

/// Where a micro-batch is cut: after the slowest groups that make up so much of its work.
const CUTS: [f64; 3] = [0.25, 0.5, 0.75];

/// So many more micro-batches, each a part of one there is, where that prolongs the step least; `None` where single sequences
/// are all that is left.
pub(super) fn split(
    instance: &Instance<'_>,
    mut bays: Vec<Bay>,
    num_more: usize,
) -> Option<Vec<Bay>> {
    for _ in 0..num_more {
        let mut best: Option<(f64, usize, [Bay; 2])> = None;
        for (index, bay) in bays.iter().enumerate() {
            let whole = within_rules(instance, bay);
            for parts in parts(instance, bay) {
                let longer =
                    within_rules(instance, &parts[0]) + within_rules(instance, &parts[1]) - whole;
                // Nothing but parts that lack sequences is still better than none.
                let longer = if longer.is_nan() {
                    f64::INFINITY
                } else {
                    longer
                };
                if best.as_ref().is_none_or(|&(least, ..)| longer < least) {
                    best = Some((longer, index, parts));
                }
            }
        }
        let (_, index, [first, second]) = best?;
        bays[index] = first;
        bays.push(second);
    }
    Some(bays)
}

/// The ways to cut a micro-batch in two.
fn parts(instance: &Instance<'_>, bay: &Bay) -> Vec<[Bay; 2]> {
    if let [single] = bay.as_slice() {
        let halves = single.halves(instance);
        return halves
            .map(|halves| halves.map(|half| vec![half]))
            .into_iter()
            .collect();
    }
    let mut slowest_first = bay.clone();
    let least = |bundle: &Bundle| bundle.choices(instance).first().copied();
    let time = |bundle: &Bundle| least(bundle).map_or(0.0, |choice| choice.time);
    slowest_first.sort_by(|a, b| time(b).total_cmp(&time(a)));
    let work = |bundle: &Bundle| {
        least(bundle).map_or(0.0, |choice| f64::from(choice.degree) * choice.time)
    };
    let total: f64 = slowest_first.iter().map(work).sum();
    let cut_after = |part: f64| {
        let mut sum = 0.0;
        let within = slowest_first.iter().take_while(|bundle| {
            sum += work(bundle);
            sum <= part * total
        });
        within.count().clamp(1, slowest_first.len() - 1)
    };
    let mut cuts: Vec<usize> = CUTS.into_iter().map(cut_after).collect();
    cuts.dedup();
    let cut = |cut: usize| {
        let (first, second) = slowest_first.split_at(cut);
        [first.to_vec(), second.to_vec()]
    };
    cuts.into_iter().map(cut).collect()
}

/// So many fewer micro-batches: what is in the shortest of them goes to the others, where that prolongs them least; `None`
/// where they have no room.
pub(super) fn merged(
    instance: &Instance<'_>,
    mut bays: Vec<Bay>,
    num_fewer: usize,
) -> Option<Vec<Bay>> {
    if num_fewer >= bays.len() {
        return None;
    }
    let least_degree = |bundle: &Bundle| {
        let choices = bundle.choices(instance);
        choices.first().map_or(u32::MAX, |choice| choice.degree)
    };
    // Times that are not negative order as their bits do.
    bays.sort_by_cached_key(|bay| Reverse(within_rules(instance, bay).to_bits()));
    let moving = bays.split_off(bays.len() - num_fewer);
    let mut moving: Vec<(u32, u32)> = moving
        .into_iter()
        .flatten()
        .flat_map(|bundle| bundle.content)
        .collect();
    moving.sort_unstable_by(|a, b| b.cmp(a));
    for (class, count) in moving {
        for _ in 0..count {
            let alone = Bundle::of(instance, &[(class, 1)]);
            let mut best: Option<(f64, usize, Option<usize>)> = None;
            for (index, bay) in bays.iter().enumerate() {
                let taken: u64 = bay
                    .iter()
                    .map(|bundle| u64::from(least_degree(bundle)))
                    .sum();
                let num_ranks = u64::from(instance.problem.cluster.num_devices());
                let time = |bundle: &Bundle| {
                    let choices = bundle.choices(instance);
                    choices
                        .iter()
                        .map(|choice| choice.time)
                        .fold(f64::INFINITY, f64::min)
                };
                if taken + u64::from(least_degree(&alone)) <= num_ranks
                    && best.is_none_or(|(least, ..)| time(&alone) < least)
                {
                    best = Some((time(&alone), index, None));
                }
                for (position, bundle) in bay.iter().enumerate() {
                    let mut joined = bundle.clone();
                    joined.add(instance, class, 1);
                    let others = taken - u64::from(least_degree(bundle));
                    let room = others + u64::from(least_degree(&joined)) <= num_ranks;
                    if room && best.is_none_or(|(least, ..)| time(&joined) < least) {
                        best = Some((time(&joined), index, Some(position)));
                    }
                }
            }
            match best? {
                (_, bay, Some(position)) => bays[bay][position].add(instance, class, 1),
                (_, bay, None) => bays[bay].push(alone),
            }
        }
    }
    Some(bays)
}
