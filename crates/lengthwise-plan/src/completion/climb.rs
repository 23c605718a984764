//! Better places for single sequences of few, by what micro-batches take once they keep the rules.

use super::bundle::Bundle;
use super::{Bay, within_rules};
use crate::instance::Instance;

/// Batches of more sequences are not climbed: their short sequences even them out.
const MAX_SEQUENCES: usize = 24;

/// How many changes are tried.
const MAX_TRIALS: usize = 1500;

/// Moves sequences to other groups or into groups of their own, or lets two of them change places, as long as that shortens
/// the step.
pub(super) fn climb(instance: &Instance<'_>, mut bays: Vec<Bay>) -> Vec<Bay> {
    if instance.num_sequences() > MAX_SEQUENCES {
        return bays;
    }
    let mut times: Vec<f64> = bays.iter().map(|bay| within_rules(instance, bay)).collect();
    let mut trials_left = MAX_TRIALS;
    while let Some(better) = first_better(instance, &bays, &times, &mut trials_left) {
        for (bay, content) in better {
            times[bay] = within_rules(instance, &content);
            bays[bay] = content;
        }
    }
    bays
}

/// The micro-batches that one change makes shorter together.
fn first_better(
    instance: &Instance<'_>,
    bays: &[Bay],
    times: &[f64],
    trials_left: &mut usize,
) -> Option<Vec<(usize, Bay)>> {
    let places = places(bays);
    for &from in &places {
        for (to_bay, bay) in bays.iter().enumerate() {
            for to in (0..=bay.len()).map(|bundle| (to_bay, bundle)) {
                if to == (from.bay, from.bundle) {
                    continue;
                }
                let mut changed = Changed::of(bays, [from.bay, to_bay]);
                changed.add(instance, to, from.class);
                changed.remove(instance, (from.bay, from.bundle), from.class);
                if changed.is_better(instance, times, trials_left)? {
                    return Some(changed.bays);
                }
            }
        }
    }
    for &one in &places {
        for &other in &places {
            if one.class <= other.class || (one.bay, one.bundle) == (other.bay, other.bundle) {
                continue;
            }
            let mut changed = Changed::of(bays, [one.bay, other.bay]);
            changed.add(instance, (other.bay, other.bundle), one.class);
            changed.add(instance, (one.bay, one.bundle), other.class);
            changed.remove(instance, (one.bay, one.bundle), one.class);
            changed.remove(instance, (other.bay, other.bundle), other.class);
            if changed.is_better(instance, times, trials_left)? {
                return Some(changed.bays);
            }
        }
    }
    None
}

/// A class that a bundle holds.
#[derive(Clone, Copy)]
struct Place {
    bay: usize,
    bundle: usize,
    class: u32,
}

fn places(bays: &[Bay]) -> Vec<Place> {
    let mut places = Vec::new();
    for (bay, bundles) in bays.iter().enumerate() {
        for (bundle, content) in bundles.iter().enumerate() {
            let classes = content.content.iter();
            places.extend(classes.map(|&(class, _)| Place { bay, bundle, class }));
        }
    }
    places
}

/// One or two micro-batches after a change.
struct Changed {
    bays: Vec<(usize, Bay)>,
}

impl Changed {
    fn of(bays: &[Bay], changing: [usize; 2]) -> Self {
        let mut changing = changing.to_vec();
        changing.dedup();
        let bays = changing.into_iter().map(|bay| (bay, bays[bay].clone()));
        Changed {
            bays: bays.collect(),
        }
    }

    fn bay(&mut self, bay: usize) -> Option<&mut Bay> {
        let mut bays = self.bays.iter_mut();
        bays.find(|(index, _)| *index == bay).map(|(_, bay)| bay)
    }

    fn add(&mut self, instance: &Instance<'_>, (bay, bundle): (usize, usize), class: u32) {
        let Some(bay) = self.bay(bay) else { return };
        match bay.get_mut(bundle) {
            Some(bundle) => bundle.add(instance, class, 1),
            None => bay.push(Bundle::of(instance, &[(class, 1)])),
        }
    }

    fn remove(&mut self, instance: &Instance<'_>, (bay, bundle): (usize, usize), class: u32) {
        let Some(bay) = self.bay(bay) else { return };
        bay[bundle].remove(instance, class);
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
        for (index, bay) in &mut self.bays {
            bay.retain(|bundle| !bundle.content.is_empty());
            before += times[*index];
            after += within_rules(instance, bay);
        }
        Some(after < before * (1.0 - 1e-9))
    }
}
