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
        let memory = bundle.memory(choice.shape);
        let group = draft.open_group(instance, micro_batch, strategy, memory)?;
        for &(class, count) in &bundle.content {
            for _ in 0..count {
                draft.place(instance, class as usize, group);
            }
        }
    }
    Some(())
}
