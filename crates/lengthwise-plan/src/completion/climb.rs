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

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use lengthwise_core::PlanRules;

    use super::*;
    use crate::adaptive::Random;
    use crate::common::{Case, Size, cases, sample};

    const SIZE: Size = Size {
        num_nodes: 2,
        devices_per_node: 3,
        num_sequences: 6,
        seq_len: 60_000,
    };

    fn total(instance: &Instance<'_>, micro_batches: &[DraftMicroBatch]) -> f64 {
        let times = micro_batches.iter().map(|one| within_rules(instance, one));
        times.sum()
    }

    fn content(micro_batches: &[DraftMicroBatch]) -> Vec<(u32, u32)> {
        let bundles = micro_batches.iter().flatten();
        let mut counts = std::collections::BTreeMap::new();
        for &(class, count) in bundles.flat_map(|bundle| &bundle.content) {
            *counts.entry(class).or_insert(0) += count;
        }
        counts.into_iter().collect()
    }

    /// Two micro-batches of bundles at random that can keep the rules.
    fn each_start(seed: u8, mut check: impl FnMut(&Instance<'_>, Vec<DraftMicroBatch>)) {
        for (index, case) in sample(cases(SIZE), seed, 400).enumerate() {
            let mut random = Random::new(index);
            let rules = PlanRules {
                no_idle_ranks: random.next() < 0.5,
                micro_batches_multiple_of: NonZero::new(2).unwrap(),
                ..PlanRules::default()
            };
            let case = Case { rules, ..case };
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let mut micro_batches = vec![vec![Bundle::empty(&instance); 2]; 2];
            for class in 0..instance.num_classes() {
                for _ in instance.members(class) {
                    let to = &mut micro_batches[random.below(2)][random.below(2)];
                    to.add(&instance, class as u32, 1);
                }
            }
            for micro_batch in &mut micro_batches {
                micro_batch.retain(|bundle| !bundle.content.is_empty());
            }
            if total(&instance, &micro_batches).is_finite() {
                check(&instance, micro_batches);
            }
        }
    }

    /// The least time that moving one sequence comes to, to any bundle or one of its own.
    fn best_move(instance: &Instance<'_>, micro_batches: &[DraftMicroBatch]) -> f64 {
        let mut least = f64::INFINITY;
        for from in 0..micro_batches.len() {
            for bundle in 0..micro_batches[from].len() {
                for &(class, _) in &micro_batches[from][bundle].content {
                    for to in 0..micro_batches.len() {
                        for target in 0..=micro_batches[to].len() {
                            let mut moved = micro_batches.to_vec();
                            if target == moved[to].len() {
                                moved[to].push(Bundle::empty(instance));
                            }
                            moved[from][bundle].remove(instance, class);
                            moved[to][target].add(instance, class, 1);
                            for micro_batch in &mut moved {
                                micro_batch.retain(|bundle| !bundle.content.is_empty());
                            }
                            least = least.min(total(instance, &moved));
                        }
                    }
                }
            }
        }
        least
    }

    /// The same for two sequences that change places.
    fn best_exchange(instance: &Instance<'_>, micro_batches: &[DraftMicroBatch]) -> f64 {
        let mut least = f64::INFINITY;
        let all = places(micro_batches);
        for one in &all {
            for other in &all {
                let mut moved = micro_batches.to_vec();
                moved[one.micro_batch][one.bundle].remove(instance, one.class);
                moved[other.micro_batch][other.bundle].add(instance, one.class, 1);
                let [from, to] = [other, one].map(|place| (place.micro_batch, place.bundle));
                if from != to {
                    moved[from.0][from.1].remove(instance, other.class);
                    moved[to.0][to.1].add(instance, other.class, 1);
                    least = least.min(total(instance, &moved));
                }
            }
        }
        least
    }

    #[test]
    fn a_climb_ends_where_no_move_and_no_exchange_is_faster() {
        let (mut num, mut num_faster) = (0, 0);
        each_start(110, |instance, micro_batches| {
            let before = total(instance, &micro_batches);
            let climbed = climb(instance, micro_batches.clone());
            let after = total(instance, &climbed);
            assert!(after <= before);
            assert_eq!(content(&climbed), content(&micro_batches));
            assert_eq!(climbed.len(), micro_batches.len());
            for better in [
                best_move(instance, &climbed),
                best_exchange(instance, &climbed),
            ] {
                assert!(
                    better >= after * (1.0 - 1e-8),
                    "{better} instead of {after}"
                );
            }
            num += 1;
            num_faster += usize::from(after < before);
        });
        assert!(num > 100 && num_faster > 50, "{num_faster} of {num}");
    }

    #[test]
    fn each_change_is_one_trial_and_none_is_made_without() {
        each_start(111, |instance, micro_batches| {
            let times: Vec<f64> = micro_batches
                .iter()
                .map(|one| within_rules(instance, one))
                .collect();
            let mut left = 2;
            let trial = |left: &mut usize| {
                let mut same = Changed::of(&micro_batches, [0, 0]);
                assert_eq!(same.micro_batches.len(), 1);
                same.is_better(instance, &times, left)
            };
            // The same takes the same time.
            assert_eq!(trial(&mut left), Some(false));
            assert_eq!(trial(&mut left), Some(false));
            assert_eq!(trial(&mut left), None);
            let mut none = 0;
            assert!(first_better(instance, &micro_batches, &times, &mut none).is_none());
        });
    }
}
