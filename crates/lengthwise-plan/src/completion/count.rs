//! More or fewer micro-batches.

use std::cmp::Reverse;

use super::bundle::Bundle;
use super::{DraftMicroBatch, within_rules};
use crate::instance::Instance;

/// Where a micro-batch is cut: after the slowest groups that make up so much of its work.
const CUTS: [f64; 3] = [0.25, 0.5, 0.75];

/// So many more micro-batches, each a part of one there is, where that prolongs the step least; `None` where single sequences
/// are all that is left.
pub(super) fn split(
    instance: &Instance<'_>,
    mut micro_batches: Vec<DraftMicroBatch>,
    num_more: usize,
) -> Option<Vec<DraftMicroBatch>> {
    for _ in 0..num_more {
        let mut best: Option<(f64, usize, [DraftMicroBatch; 2])> = None;
        for (index, micro_batch) in micro_batches.iter().enumerate() {
            let whole = within_rules(instance, micro_batch);
            for parts in parts(instance, micro_batch) {
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
        micro_batches[index] = first;
        micro_batches.push(second);
    }
    Some(micro_batches)
}

/// The ways to cut a micro-batch in two.
fn parts(instance: &Instance<'_>, micro_batch: &DraftMicroBatch) -> Vec<[DraftMicroBatch; 2]> {
    if let [single] = micro_batch.as_slice() {
        let halves = single.halves(instance);
        return halves
            .map(|halves| halves.map(|half| vec![half]))
            .into_iter()
            .collect();
    }
    let mut slowest_first = micro_batch.clone();
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
    mut micro_batches: Vec<DraftMicroBatch>,
    num_fewer: usize,
) -> Option<Vec<DraftMicroBatch>> {
    if num_fewer >= micro_batches.len() {
        return None;
    }
    let least_degree = |bundle: &Bundle| {
        let choices = bundle.choices(instance);
        choices.first().map_or(u32::MAX, |choice| choice.degree)
    };
    // Times that are not negative order as their bits do.
    micro_batches
        .sort_by_cached_key(|micro_batch| Reverse(within_rules(instance, micro_batch).to_bits()));
    let moving = micro_batches.split_off(micro_batches.len() - num_fewer);
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
            for (index, micro_batch) in micro_batches.iter().enumerate() {
                let taken: u64 = micro_batch
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
                for (position, bundle) in micro_batch.iter().enumerate() {
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
                (_, micro_batch, Some(position)) => {
                    micro_batches[micro_batch][position].add(instance, class, 1)
                }
                (_, micro_batch, None) => micro_batches[micro_batch].push(alone),
            }
        }
    }
    Some(micro_batches)
}
