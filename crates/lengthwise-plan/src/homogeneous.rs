//! One degree for all groups, with sequences packed best fit decreasing.

use lengthwise_core::Strategy;

use crate::draft::{Draft, DraftMicroBatch};
use crate::instance::Instance;
use crate::placement::FreeDevices;

/// Packs the batch into groups of `strategy` alone; `None` where some sequence does not fit such a group.
///
/// Sequences go from long to short to the group that they leave the least memory of; a new group is opened only
/// where none has room, a new micro-batch only where no devices are left. Full groups of equal devices
/// are then sorted by time, so that those of a micro-batch end together.
pub(crate) fn pack(instance: &Instance<'_>, strategy: Strategy) -> Option<Draft> {
    let mut draft = Draft::default();
    let mut by_room = std::collections::BTreeSet::new();
    let all = FreeDevices::all(instance.problem);
    for class in (0..instance.num_classes()).rev() {
        let needed = instance
            .problem
            .cost
            .sequence_memory(strategy, instance.class_lens[class])
            .0;
        for _ in instance.members(class) {
            let roomy = by_room.range((needed, 0, 0)..).next().copied();
            let (room, micro_batch, group) = match roomy {
                Some(entry) => {
                    by_room.remove(&entry);
                    entry
                }
                None => open(instance, &mut draft, &all, strategy, needed)?,
            };
            draft.micro_batches[micro_batch].groups[group].push(instance, class);
            by_room.insert((room - needed, micro_batch, group));
        }
    }
    if instance.has_equal_devices() {
        sort_by_time(&mut draft);
    }
    Some(draft)
}

/// Opens a group with room for `needed` bytes: its room, micro-batch and position.
fn open(
    instance: &Instance<'_>,
    draft: &mut Draft,
    all: &FreeDevices,
    strategy: Strategy,
    needed: u64,
) -> Option<(u64, usize, usize)> {
    let last = draft.micro_batches.len().saturating_sub(1);
    if let Some(micro_batch) = draft.micro_batches.last_mut()
        && let Some(group) = micro_batch.open(instance, strategy, needed)
    {
        return Some((group.seat.budget, last, micro_batch.groups.len() - 1));
    }
    let mut micro_batch = DraftMicroBatch::new(all.clone());
    let room = micro_batch.open(instance, strategy, needed)?.seat.budget;
    draft.micro_batches.push(micro_batch);
    Some((room, draft.micro_batches.len() - 1, 0))
}

/// Hands the contents of the groups out anew, slowest first.
fn sort_by_time(draft: &mut Draft) {
    let groups = draft.micro_batches.iter_mut().flat_map(|m| &mut m.groups);
    let mut groups: Vec<_> = groups.collect();
    // Groups that cross nodes stay where they are: their times hold for their seats only.
    let first_shape = groups.first().map(|group| group.shape);
    groups.retain(|group| Some(group.shape) == first_shape);
    let mut contents: Vec<_> = groups
        .iter_mut()
        .map(|group| (group.time, group.memory, std::mem::take(&mut group.classes)))
        .collect();
    contents.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (group, (time, memory, classes)) in groups.into_iter().zip(contents) {
        (group.time, group.memory, group.classes) = (time, memory, classes);
    }
}
