//! Better places for single sequences of few, by what micro-batches take once they keep the rules.

use super::bundle::Bundle;
use super::{DraftMicroBatch, within_rules};
use crate::instance::Instance;

/// Batches of more sequences are not climbed: their short sequences even them out.
const MAX_SEQUENCES: usize = 24;

/// How many changes are tried.
const MAX_TRIALS: usize = 1500;

/// Moves sequences to other groups or into groups of their own, or lets two of them change places, as long as that shortens
/// the step.
pub(super) fn climb(
    instance: &Instance<'_>,
    mut micro_batches: Vec<DraftMicroBatch>,
) -> Vec<DraftMicroBatch> {
    if instance.num_sequences() > MAX_SEQUENCES {
        return micro_batches;
    }
    let mut times: Vec<f64> = micro_batches
        .iter()
        .map(|micro_batch| within_rules(instance, micro_batch))
        .collect();
    let mut trials_left = MAX_TRIALS;
    while let Some(better) = first_better(instance, &micro_batches, &times, &mut trials_left) {
        for (micro_batch, content) in better {
            times[micro_batch] = within_rules(instance, &content);
            micro_batches[micro_batch] = content;
        }
    }
    micro_batches
}

/// The micro-batches that one change makes shorter together.
fn first_better(
    instance: &Instance<'_>,
    micro_batches: &[DraftMicroBatch],
    times: &[f64],
    trials_left: &mut usize,
) -> Option<Vec<(usize, DraftMicroBatch)>> {
    let places = places(micro_batches);
    for &from in &places {
        for (to_micro_batch, micro_batch) in micro_batches.iter().enumerate() {
            for to in (0..=micro_batch.len()).map(|bundle| (to_micro_batch, bundle)) {
                if to == (from.micro_batch, from.bundle) {
                    continue;
                }
                let mut changed = Changed::of(micro_batches, [from.micro_batch, to_micro_batch]);
                changed.add(instance, to, from.class);
                changed.remove(instance, (from.micro_batch, from.bundle), from.class);
                if changed.is_better(instance, times, trials_left)? {
                    return Some(changed.micro_batches);
                }
            }
        }
    }
    for &one in &places {
        for &other in &places {
            if one.class <= other.class
                || (one.micro_batch, one.bundle) == (other.micro_batch, other.bundle)
            {
                continue;
            }
            let mut changed = Changed::of(micro_batches, [one.micro_batch, other.micro_batch]);
            changed.add(instance, (other.micro_batch, other.bundle), one.class);
            changed.add(instance, (one.micro_batch, one.bundle), other.class);
            changed.remove(instance, (one.micro_batch, one.bundle), one.class);
            changed.remove(instance, (other.micro_batch, other.bundle), other.class);
            if changed.is_better(instance, times, trials_left)? {
                return Some(changed.micro_batches);
            }
        }
    }
    None
}

/// A class that a bundle holds.
#[derive(Clone, Copy)]
struct Place {
    micro_batch: usize,
    bundle: usize,
    class: u32,
}

fn places(micro_batches: &[DraftMicroBatch]) -> Vec<Place> {
    let mut places = Vec::new();
    for (micro_batch, bundles) in micro_batches.iter().enumerate() {
        for (bundle, content) in bundles.iter().enumerate() {
            let classes = content.content.iter();
            places.extend(classes.map(|&(class, _)| Place {
                micro_batch,
                bundle,
                class,
            }));
        }
    }
    places
}

/// One or two micro-batches after a change.
struct Changed {
    micro_batches: Vec<(usize, DraftMicroBatch)>,
}

impl Changed {
    fn of(micro_batches: &[DraftMicroBatch], changing: [usize; 2]) -> Self {
        let mut changing = changing.to_vec();
        changing.dedup();
        let micro_batches = changing
            .into_iter()
            .map(|micro_batch| (micro_batch, micro_batches[micro_batch].clone()));
        Changed {
            micro_batches: micro_batches.collect(),
        }
    }

    fn micro_batch(&mut self, micro_batch: usize) -> Option<&mut DraftMicroBatch> {
        let mut micro_batches = self.micro_batches.iter_mut();
        micro_batches
            .find(|(index, _)| *index == micro_batch)
            .map(|(_, micro_batch)| micro_batch)
    }

    fn add(&mut self, instance: &Instance<'_>, (micro_batch, bundle): (usize, usize), class: u32) {
        let Some(micro_batch) = self.micro_batch(micro_batch) else {
            return;
        };
        match micro_batch.get_mut(bundle) {
            Some(bundle) => bundle.add(instance, class, 1),
            None => micro_batch.push(Bundle::of(instance, &[(class, 1)])),
        }
    }

    fn remove(
        &mut self,
        instance: &Instance<'_>,
        (micro_batch, bundle): (usize, usize),
        class: u32,
    ) {
        let Some(micro_batch) = self.micro_batch(micro_batch) else {
            return;
        };
        micro_batch[bundle].remove(instance, class);
    }

    /// Whether the micro-batches take less time than before; `None` once no more trials are left.
    fn is_better(
        &mut self,
        instance: &Instance<'_>,
        times: &[f64],
        trials_left: &mut usize,
    ) -> Option<bool> {
        *trials_left = trials_left.checked_sub(1)?;
        let (mut before, mut after) = (0.0, 0.0);
        for (index, micro_batch) in &mut self.micro_batches {
            micro_batch.retain(|bundle| !bundle.content.is_empty());
            before += times[*index];
            after += within_rules(instance, micro_batch);
        }
        Some(after < before * (1.0 - 1e-9))
    }
}
