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
type Bay = Vec<Bundle>;

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
    let bays = bays(instance, &draft);
    let multiple = instance.problem.rules.micro_batches_multiple_of.get() as usize;
    let surplus = bays.len() % multiple;
    if surplus == 0 {
        return to_draft(instance, bays);
    }
    let more = split(instance, bays.clone(), multiple - surplus);
    let fewer = merged(instance, bays, surplus);
    let drafts = [more, fewer].into_iter().flatten();
    let drafts = drafts.filter_map(|bays| to_draft(instance, bays));
    drafts.min_by(|a, b| a.step_time(instance).total_cmp(&b.step_time(instance)))
}

/// The draft with sequences moved where that shortens the step, as the rules will have it; the same where sequences are many,
/// or there are no such rules.
pub(crate) fn climbed(instance: &Instance<'_>, draft: Draft) -> Draft {
    if !is_needed(instance) {
        return draft;
    }
    let climbed = to_draft(instance, climb(instance, bays(instance, &draft)));
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

fn bays(instance: &Instance<'_>, draft: &Draft) -> Vec<Bay> {
    let mut bundles = vec![Bundle::empty(instance); draft.groups.len()];
    for placed in &draft.placed {
        bundles[placed.group as usize].add(instance, placed.class, placed.count);
    }
    let mut bays: Vec<Bay> = vec![Vec::new(); draft.free.len()];
    for (group, mut bundle) in draft.groups.iter().zip(bundles) {
        if !bundle.content.is_empty() {
            bundle.shape = Some(group.shape as usize);
            bays[group.micro_batch as usize].push(bundle);
        }
    }
    bays.retain(|bay| !bay.is_empty());
    bays
}

/// Gives every bundle ranks.
fn to_draft(instance: &Instance<'_>, mut bays: Vec<Bay>) -> Option<Draft> {
    let mut draft = Draft::default();
    if !instance.problem.rules.no_idle_ranks {
        for bay in bays {
            let busy = smallest(instance, bay)?;
            open_groups(instance, &mut draft, busy)?;
        }
        return Some(draft);
    }
    let mut filled: Vec<Option<Busy>> = vec![None; bays.len()];
    loop {
        for (filled, bay) in filled.iter_mut().zip(&bays) {
            if filled.is_none() {
                *filled = busy(instance, bay);
            }
        }
        let Some(lacking) = filled.iter().position(Option::is_none) else {
            break;
        };
        // A sequence of the micro-batch that has most of them, as a group of its own.
        let of = |bay: &Bay| bay.iter().map(Bundle::num_sequences).sum::<u32>();
        let others = (0..bays.len()).filter(|&bay| bay != lacking);
        let donor = others.max_by_key(|&bay| of(&bays[bay]))?;
        if of(&bays[donor]) <= of(&bays[lacking]) + 1 {
            return None;
        }
        let giving = bays[donor]
            .iter_mut()
            .max_by_key(|bundle| bundle.num_sequences())?;
        let class = giving.take_shortest(instance)?;
        bays[donor].retain(|bundle| !bundle.content.is_empty());
        bays[lacking].push(Bundle::of(instance, &[(class, 1)]));
        (filled[donor], filled[lacking]) = (None, None);
    }
    for busy in filled.into_iter().flatten() {
        open_groups(instance, &mut draft, busy)?;
    }
    Some(draft)
}

/// About the makespan of a micro-batch that keeps the rules, at nominal speed; without end where it can't, or is empty.
fn within_rules(instance: &Instance<'_>, bay: &Bay) -> f64 {
    let busy = if bay.is_empty() {
        None
    } else if instance.problem.rules.no_idle_ranks {
        busy(instance, bay)
    } else {
        smallest(instance, bay.clone())
    };
    busy.map_or(f64::INFINITY, |busy| busy.makespan)
}

/// A micro-batch with the smallest degrees that its bundles may have, where ranks may idle, made larger as far as that
/// shortens it.
fn smallest(instance: &Instance<'_>, bay: Bay) -> Option<Busy> {
    let choices: Vec<Vec<Choice>> = bay.iter().map(|bundle| bundle.choices(instance)).collect();
    let mut chosen = vec![0usize; bay.len()];
    let degree = |group: usize, chosen: usize| choices[group].get(chosen).map(|c| c.degree);
    let mut free = instance.problem.cluster.num_devices();
    for group in 0..bay.len() {
        free = free.checked_sub(degree(group, 0)?)?;
    }
    loop {
        let time = |&group: &usize| choices[group][chosen[group]].time;
        let slowest = (0..bay.len()).max_by(|a, b| time(a).total_cmp(&time(b)))?;
        let here = choices[slowest][chosen[slowest]];
        let faster = (chosen[slowest] + 1..choices[slowest].len()).find(|&larger| {
            let larger = choices[slowest][larger];
            larger.degree - here.degree <= free && larger.time < here.time
        });
        let Some(faster) = faster else {
            let groups = bay.into_iter().enumerate();
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
