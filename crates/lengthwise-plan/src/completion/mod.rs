//! Drafts that keep the rules which their search does not heed: no idle rank, and a multiple of micro-batches.
//!
//! ```text
//! micro-batches of bundles -> as many as the rules ask for -> every rank in a group -> draft
//! ```

mod bundle;
mod busy;
mod climb;
mod count;
mod exact_sum;

use self::bundle::{Bundle, Choice};
use self::busy::{Busy, busy};
use self::climb::climb;
use self::count::{merged, split};
use crate::draft::Draft;
use crate::instance::Instance;

/// A micro-batch whose groups have no ranks yet.
type DraftMicroBatch = Vec<Bundle>;

/// Whether the rules ask for what drafts are searched without.
pub(crate) fn is_needed(instance: &Instance<'_>) -> bool {
    let rules = &instance.problem.rules;
    rules.no_idle_ranks || rules.micro_batches_multiple_of.get() > 1
}

/// The draft changed as little as the rules ask for; `None` where no way is found to keep them.
pub(crate) fn complete(instance: &Instance<'_>, draft: Draft) -> Option<Draft> {
    if !is_needed(instance) || keeps_rules(instance, &draft) {
        return Some(draft);
    }
    let micro_batches = micro_batches(instance, &draft);
    let multiple = instance.problem.rules.micro_batches_multiple_of.get() as usize;
    let surplus = micro_batches.len() % multiple;
    if surplus == 0 {
        return to_draft(instance, micro_batches);
    }
    let more = split(instance, micro_batches.clone(), multiple - surplus);
    let fewer = merged(instance, micro_batches, surplus);
    let drafts = [more, fewer].into_iter().flatten();
    let drafts = drafts.filter_map(|micro_batches| to_draft(instance, micro_batches));
    drafts.min_by(|a, b| a.step_time(instance).total_cmp(&b.step_time(instance)))
}

/// The draft with sequences moved where that shortens the step, as the rules will have it; the same where sequences are many,
/// or there are no such rules.
pub(crate) fn climbed(instance: &Instance<'_>, draft: Draft) -> Draft {
    if !is_needed(instance) {
        return draft;
    }
    let climbed = to_draft(instance, climb(instance, micro_batches(instance, &draft)));
    match climbed {
        Some(climbed) if climbed.step_time(instance) < draft.step_time(instance) => climbed,
        _ => draft,
    }
}

fn keeps_rules(instance: &Instance<'_>, draft: &Draft) -> bool {
    let num_ranks = instance.problem.cluster.num_devices();
    let may_idle = !instance.problem.rules.no_idle_ranks;
    has_right_count(instance, draft)
        && (may_idle || busy_ranks(instance, draft).all(|ranks| ranks == num_ranks))
}

/// Whether there are as many micro-batches as the rules ask for.
pub(crate) fn has_right_count(instance: &Instance<'_>, draft: &Draft) -> bool {
    let multiple = instance.problem.rules.micro_batches_multiple_of.get() as usize;
    multiple == 1 || busy_ranks(instance, draft).count().is_multiple_of(multiple)
}

/// The ranks in groups that hold something, of every micro-batch that does.
fn busy_ranks(instance: &Instance<'_>, draft: &Draft) -> impl Iterator<Item = u32> {
    let mut busy = vec![0u32; draft.free.len()];
    for group in &draft.groups {
        if group.load.sequences > 0 {
            busy[group.micro_batch as usize] += instance.shapes[group.shape as usize].degree;
        }
    }
    busy.into_iter().filter(|&ranks| ranks > 0)
}

fn micro_batches(instance: &Instance<'_>, draft: &Draft) -> Vec<DraftMicroBatch> {
    let mut bundles = vec![Bundle::empty(instance); draft.groups.len()];
    for placed in &draft.placed {
        bundles[placed.group as usize].add(instance, placed.class, placed.count);
    }
    let mut micro_batches: Vec<DraftMicroBatch> = vec![Vec::new(); draft.free.len()];
    for (group, mut bundle) in draft.groups.iter().zip(bundles) {
        if !bundle.content.is_empty() {
            bundle.shape = Some(group.shape as usize);
            micro_batches[group.micro_batch as usize].push(bundle);
        }
    }
    micro_batches.retain(|micro_batch| !micro_batch.is_empty());
    micro_batches
}

/// Gives every bundle ranks.
fn to_draft(instance: &Instance<'_>, mut micro_batches: Vec<DraftMicroBatch>) -> Option<Draft> {
    let mut draft = Draft::default();
    if !instance.problem.rules.no_idle_ranks {
        for micro_batch in micro_batches {
            let busy = smallest(instance, micro_batch)?;
            open_groups(instance, &mut draft, busy)?;
        }
        return Some(draft);
    }
    let mut filled: Vec<Option<Busy>> = vec![None; micro_batches.len()];
    loop {
        for (filled, micro_batch) in filled.iter_mut().zip(&micro_batches) {
            if filled.is_none() {
                *filled = busy(instance, micro_batch);
            }
        }
        let Some(lacking) = filled.iter().position(Option::is_none) else {
            break;
        };
        // A sequence of the micro-batch that has most of them, as a group of its own.
        let of = |micro_batch: &DraftMicroBatch| {
            micro_batch.iter().map(Bundle::num_sequences).sum::<u32>()
        };
        let others = (0..micro_batches.len()).filter(|&micro_batch| micro_batch != lacking);
        let donor = others.max_by_key(|&micro_batch| of(&micro_batches[micro_batch]))?;
        if of(&micro_batches[donor]) <= of(&micro_batches[lacking]) + 1 {
            return None;
        }
        let giving = micro_batches[donor]
            .iter_mut()
            .max_by_key(|bundle| bundle.num_sequences())?;
        let class = giving.take_shortest(instance)?;
        micro_batches[donor].retain(|bundle| !bundle.content.is_empty());
        micro_batches[lacking].push(Bundle::of(instance, &[(class, 1)]));
        (filled[donor], filled[lacking]) = (None, None);
    }
    for busy in filled.into_iter().flatten() {
        open_groups(instance, &mut draft, busy)?;
    }
    Some(draft)
}

/// About the makespan of a micro-batch that keeps the rules, at nominal speed; without end where it can't, or is empty.
fn within_rules(instance: &Instance<'_>, micro_batch: &DraftMicroBatch) -> f64 {
    let busy = if micro_batch.is_empty() {
        None
    } else if instance.problem.rules.no_idle_ranks {
        busy(instance, micro_batch)
    } else {
        smallest(instance, micro_batch.clone())
    };
    busy.map_or(f64::INFINITY, |busy| busy.makespan)
}

/// A micro-batch with the smallest degrees that its bundles may have, where ranks may idle, made larger as far as that
/// shortens it.
fn smallest(instance: &Instance<'_>, micro_batch: DraftMicroBatch) -> Option<Busy> {
    let choices: Vec<Vec<Choice>> = micro_batch
        .iter()
        .map(|bundle| bundle.choices(instance))
        .collect();
    let mut chosen = vec![0usize; micro_batch.len()];
    let degree = |group: usize, chosen: usize| choices[group].get(chosen).map(|c| c.degree);
    let mut free = instance.problem.cluster.num_devices();
    for group in 0..micro_batch.len() {
        free = free.checked_sub(degree(group, 0)?)?;
    }
    loop {
        let time = |&group: &usize| choices[group][chosen[group]].time;
        let slowest = (0..micro_batch.len()).max_by(|a, b| time(a).total_cmp(&time(b)))?;
        let here = choices[slowest][chosen[slowest]];
        let faster = (chosen[slowest] + 1..choices[slowest].len()).find(|&larger| {
            let larger = choices[slowest][larger];
            larger.degree - here.degree <= free && larger.time < here.time
        });
        let Some(faster) = faster else {
            let groups = micro_batch.into_iter().enumerate();
            let groups = groups.map(|(group, bundle)| (bundle, choices[group][chosen[group]]));
            return Some(Busy {
                makespan: here.time,
                groups: groups.collect(),
            });
        };
        free -= choices[slowest][faster].degree - here.degree;
        chosen[slowest] = faster;
    }
}

/// Adds the micro-batch to a draft, the largest and slowest groups first; `None` where they don't find devices.
fn open_groups(instance: &Instance<'_>, draft: &mut Draft, busy: Busy) -> Option<()> {
    let micro_batch = draft.open_micro_batch(instance);
    let mut groups = busy.groups;
    groups.sort_by(|(_, a), (_, b)| b.degree.cmp(&a.degree).then(b.time.total_cmp(&a.time)));
    for (bundle, choice) in groups {
        let strategy = instance.shapes[choice.shape].strategy;
        let load = bundle.load(choice.shape);
        let group = draft.open_group(instance, micro_batch, strategy, load)?;
        for &(class, count) in &bundle.content {
            for _ in 0..count {
                draft.place(instance, class as usize, group);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use lengthwise_core::PlanRules;

    use super::bundle::tests::SIZE;
    use super::*;
    use crate::adaptive::{Random, random_draft};
    use crate::common::{Case, cases, sample};

    /// Random drafts of problems with rules about idle ranks and the number of micro-batches.
    fn each_draft(seed: u8, mut check: impl FnMut(&Instance<'_>, Draft)) {
        for (index, case) in sample(cases(SIZE), seed, 300).enumerate() {
            let mut random = Random::new(index);
            let rules = PlanRules {
                no_idle_ranks: random.next() < 0.5,
                micro_batches_multiple_of: NonZero::new(random.below(3) as u32 + 1).unwrap(),
                ..PlanRules::default()
            };
            let case = Case { rules, ..case };
            if let Ok(instance) = Instance::new(case.problem()) {
                let draft = random_draft(&instance, &mut random);
                check(&instance, draft);
            }
        }
    }

    fn num_micro_batches(draft: &Draft) -> usize {
        draft
            .makespans()
            .iter()
            .filter(|&&makespan| makespan > 0.0)
            .count()
    }

    /// Whether a draft keeps the rules, by its plan.
    fn is_within_rules(instance: &Instance<'_>, draft: &Draft) -> bool {
        let (problem, plan) = (instance.problem, draft.clone().into_plan(instance));
        problem
            .rules
            .check(&plan, problem.batch, problem.cluster)
            .is_ok()
    }

    /// How many sequences of each class it holds.
    fn counts(instance: &Instance<'_>, draft: &Draft) -> Vec<usize> {
        let mut counts = vec![0; instance.num_classes()];
        for placed in &draft.placed {
            counts[placed.class as usize] += placed.count as usize;
        }
        counts
    }

    #[test]
    fn completed_drafts_hold_the_batch_and_keep_the_rules_and_those_that_did_stay_as_they_are() {
        let [mut num_kept, mut num_changed, mut num_failed] = [0; 3];
        each_draft(190, |instance, draft| {
            let before = draft.clone();
            let is_kept = is_within_rules(instance, &before);
            assert_eq!(keeps_rules(instance, &before), is_kept);
            let multiple = instance.problem.rules.micro_batches_multiple_of.get() as usize;
            let is_multiple = num_micro_batches(&before).is_multiple_of(multiple);
            assert_eq!(has_right_count(instance, &before), is_multiple);
            let Some(completed) = complete(instance, draft) else {
                assert!(!is_kept);
                num_failed += 1;
                return;
            };
            assert!(is_within_rules(instance, &completed));
            assert_eq!(counts(instance, &completed), counts(instance, &before));
            if is_kept {
                num_kept += 1;
                assert_eq!(completed.placed, before.placed);
            } else {
                num_changed += 1;
            }
        });
        assert!(
            num_kept > 30 && num_changed > 50,
            "{num_kept}, {num_changed}, {num_failed}"
        );
        assert!(
            num_failed * 4 < num_changed,
            "{num_failed} of {num_changed}"
        );
    }

    #[test]
    fn climbed_drafts_hold_the_batch_keep_the_rules_and_take_no_longer() {
        let (mut num_same, mut num_faster) = (0, 0);
        each_draft(191, |instance, draft| {
            let Some(draft) = complete(instance, draft) else {
                return;
            };
            let climbed = climbed(instance, draft.clone());
            assert!(is_within_rules(instance, &climbed));
            assert_eq!(counts(instance, &climbed), counts(instance, &draft));
            let [before, after] = [&draft, &climbed].map(|draft| draft.step_time(instance));
            assert!(after <= before);
            num_faster += usize::from(after < before);
            num_same += usize::from(after == before);
            if !is_needed(instance) {
                assert_eq!(climbed.placed, draft.placed);
            }
        });
        assert!(num_faster > 50 && num_same > 20, "{num_faster}, {num_same}");
    }

    #[test]
    fn the_slowest_group_grows_as_long_as_there_are_ranks_and_it_gets_faster() {
        let (mut num, mut num_grown) = (0, 0);
        each_draft(192, |instance, draft| {
            for micro_batch in micro_batches(instance, &draft) {
                let Some(found) = smallest(instance, micro_batch.clone()) else {
                    continue;
                };
                num += 1;
                let degrees = found.groups.iter().map(|(_, choice)| choice.degree);
                let taken: u32 = degrees.sum();
                let num_ranks = instance.problem.cluster.num_devices();
                assert!(taken <= num_ranks);
                let times = found.groups.iter().map(|(_, choice)| choice.time);
                assert_eq!(found.makespan, times.fold(0.0, f64::max));
                for ((bundle, choice), before) in found.groups.iter().zip(&micro_batch) {
                    assert_eq!(bundle.content, before.content);
                    let choices = bundle.choices(instance);
                    assert!(choices.iter().any(|one| one.shape == choice.shape));
                    let least = choices[0];
                    num_grown += usize::from(choice.degree > least.degree);
                    // It grew only to be faster, when it was the slowest.
                    let is_least = choice.shape == least.shape;
                    assert!(is_least || choice.time < least.time && least.time >= found.makespan);
                }
                let slowest = found.groups.iter().rev();
                let slowest = slowest.max_by(|a, b| a.1.time.total_cmp(&b.1.time));
                let (bundle, choice) = slowest.expect("there is a group");
                let is_alone = found
                    .groups
                    .iter()
                    .filter(|(_, one)| one.time == choice.time)
                    .count()
                    == 1;
                let could_grow = bundle.choices(instance).into_iter().any(|larger| {
                    larger.degree > choice.degree
                        && larger.degree - choice.degree <= num_ranks - taken
                        && larger.time < choice.time
                });
                assert!(!is_alone || !could_grow);
            }
        });
        assert!(num > 100 && num_grown > 50, "{num}, {num_grown}");
    }
}
