//! One degree for all groups, with sequences packed best fit decreasing.

use std::collections::BTreeSet;

use lengthwise_core::{Degree, Strategy};

use crate::completion::complete;
use crate::draft::Draft;
use crate::instance::Instance;
use crate::load::Load;

/// Packs the batch into groups of the best single strategy; `None` where some sequence fits none that all others fit.
pub(crate) fn pack_best(instance: &Instance<'_>) -> Option<Draft> {
    pack_best_of(instance, |_| true)
}

/// The same with the strategies of one degree only.
pub(crate) fn pack_degree(instance: &Instance<'_>, degree: Degree) -> Option<Draft> {
    pack_best_of(instance, |strategy| strategy.degree() == degree)
}

fn pack_best_of(instance: &Instance<'_>, may: impl Fn(Strategy) -> bool) -> Option<Draft> {
    let strategies = instance.problem.space.strategies().iter();
    strategies
        .filter(|&&strategy| may(strategy))
        .filter_map(|&strategy| pack(instance, strategy))
        .min_by(|a, b| a.step_time(instance).total_cmp(&b.step_time(instance)))
}

/// The best of the same drafts, changed to keep the rules, if it takes less than `seconds`.
pub(crate) fn pack_faster_than(instance: &Instance<'_>, seconds: f64) -> Option<Draft> {
    let strategies = instance.problem.space.strategies().iter();
    let hopeful = strategies.filter(|&&strategy| least_time(instance, strategy) < seconds);
    hopeful
        .filter_map(|&strategy| complete(instance, pack(instance, strategy)?))
        .filter(|draft| draft.step_time(instance) < seconds)
        .min_by(|a, b| a.step_time(instance).total_cmp(&b.step_time(instance)))
}

/// The least device-seconds under `strategy`.
fn least_time(instance: &Instance<'_>, strategy: Strategy) -> f64 {
    let shapes = 0..instance.shapes.len();
    let shapes: Vec<usize> = shapes
        .filter(|&shape| instance.shapes[shape].strategy == strategy)
        .collect();
    let work = |class: usize| {
        let works = shapes.iter().map(|&shape| instance.work(shape, class));
        works.fold(f64::INFINITY, f64::min) * instance.members(class).len() as f64
    };
    let work: f64 = (0..instance.num_classes()).map(work).sum();
    work / instance.total_speed + instance.overhead
}

/// Packs the batch into groups of `strategy` alone; `None` where some sequence does not fit such a group.
///
/// Sequences go from long to short to the group that they leave the least memory of; a new group is opened only
/// where none has room, a new micro-batch only where no devices are left. On equal devices, full groups
/// are then sorted by time, so that those of a micro-batch end together.
pub(crate) fn pack(instance: &Instance<'_>, strategy: Strategy) -> Option<Draft> {
    let mut draft = Draft::default();
    let shapes = &instance.shapes;
    let mut by_room: BTreeSet<(u64, u32)> = BTreeSet::new();
    for class in (0..instance.num_classes()).rev() {
        let shape = shapes.iter().position(|shape| shape.strategy == strategy)?;
        let needed = instance.load(shape, class);
        for _ in instance.members(class) {
            let mut roomy = by_room.range((instance.measure(needed), 0)..);
            let roomy =
                roomy.find(|&&(_, group)| draft.groups[group as usize].has_room(instance, class));
            let roomy = roomy.copied();
            let group = match roomy {
                Some(entry) => {
                    by_room.remove(&entry);
                    entry.1
                }
                None => open(instance, &mut draft, strategy, needed)?,
            };
            if !draft.groups[group as usize].has_room(instance, class) {
                return None;
            }
            draft.place(instance, class, group);
            let room = draft.groups[group as usize].room(instance);
            if room.sequences > 0 {
                by_room.insert((instance.measure(room), group));
            }
        }
    }
    if instance.devices.are_equal() {
        sort_by_time(&mut draft);
    }
    Some(draft)
}

/// Opens a group with room for `needed`.
fn open(
    instance: &Instance<'_>,
    draft: &mut Draft,
    strategy: Strategy,
    needed: Load,
) -> Option<u32> {
    if let Some(last) = draft.free.len().checked_sub(1)
        && let Some(group) = draft.open_group(instance, last as u32, strategy, needed)
    {
        return Some(group);
    }
    let micro_batch = draft.open_micro_batch(instance);
    draft.open_group(instance, micro_batch, strategy, needed)
}

/// Hands the contents of the groups out anew, slowest first.
fn sort_by_time(draft: &mut Draft) {
    // Groups of another span stay where they are: their times hold for their devices only.
    let first_shape = draft.groups.first().map(|group| group.shape);
    let alike =
        (0..draft.groups.len()).filter(|&group| Some(draft.groups[group].shape) == first_shape);
    let positions: Vec<usize> = alike.collect();
    let mut by_time = positions.clone();
    by_time.sort_by(|&a, &b| draft.groups[b].time.total_cmp(&draft.groups[a].time));
    let contents: Vec<(f64, Load)> = by_time
        .iter()
        .map(|&group| (draft.groups[group].time, draft.groups[group].load))
        .collect();
    let mut moved_to: Vec<u32> = (0..draft.groups.len() as u32).collect();
    for ((&position, &group), (time, load)) in positions.iter().zip(&by_time).zip(contents) {
        moved_to[group] = position as u32;
        draft.groups[position].time = time;
        draft.groups[position].load = load;
    }
    for placed in &mut draft.placed {
        placed.group = moved_to[placed.group as usize];
    }
}
