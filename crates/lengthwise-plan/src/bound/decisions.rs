//! The decisions that a node of the search stands for, and the dual prices of its places.

use super::relaxation::Relaxation;

/// Decided groups and free places; what [`Relaxation`] bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    /// Micro-batches of the plan.
    pub(crate) num_micro_batches: usize,
    /// Whether it may have more than these, with memory to spare.
    pub(crate) or_more: bool,
    /// How many micro-batches have committed groups.
    pub(crate) num_opened: usize,
    /// How many of the longest sequences are decided.
    pub(crate) num_decided: usize,
    pub(crate) groups: Vec<Committed>,
}

/// A group that holds one decided sequence or more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) micro_batch: usize,
    pub(crate) shape: usize,
    /// Seconds of its decided sequences.
    pub(crate) time: f64,
    /// The part of its devices' budget that they take.
    pub(crate) memory: f64,
}

/// The dual prices of places: of a device-second, and of the whole budget of a device. Places are the committed groups,
/// then the free devices of each opened micro-batch, then the micro-batches that are not opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct DualPrices {
    pub(super) time: Vec<f64>,
    pub(super) memory: Vec<f64>,
}

impl Decisions {
    /// Whether nothing is decided but that there is one micro-batch.
    pub(super) fn is_one_micro_batch(&self) -> bool {
        self.num_micro_batches == 1 && !self.or_more && self.num_decided == 0
    }

    /// The devices of every place.
    pub(super) fn devices(&self, relaxation: &Relaxation<'_, '_>) -> Vec<f64> {
        let degree = |group: &Committed| relaxation.instance.shapes[group.shape].degree;
        let mut devices: Vec<f64> = self.groups.iter().map(degree).map(f64::from).collect();
        for micro_batch in 0..self.num_opened {
            let inside = self
                .groups
                .iter()
                .filter(|group| group.micro_batch == micro_batch);
            devices.push(relaxation.usable_beside(inside.map(degree).sum()));
        }
        if self.num_opened < self.num_micro_batches {
            devices.push(relaxation.num_devices);
        }
        devices
    }

    /// The least makespan of each opened micro-batch, then that of all the others together.
    pub(super) fn least_makespans(&self, relaxation: &Relaxation<'_, '_>) -> Vec<f64> {
        let mut least = vec![0.0f64; self.num_opened];
        for group in &self.groups {
            least[group.micro_batch] = least[group.micro_batch].max(group.time);
        }
        if self.num_opened < self.num_micro_batches {
            let nothing_decided = self.num_opened == 0;
            least.push(if nothing_decided {
                relaxation.instance.least_makespan()
            } else {
                0.0
            });
        }
        least
    }

    /// The places of a micro-batch, or of those that are not opened.
    pub(super) fn places_of(&self, micro_batch: usize) -> Vec<usize> {
        let groups =
            (0..self.groups.len()).filter(|&group| self.groups[group].micro_batch == micro_batch);
        groups.chain([self.groups.len() + micro_batch]).collect()
    }

    /// The memory a place has left, in budgets.
    pub(super) fn memory_of(
        &self,
        relaxation: &Relaxation<'_, '_>,
        place: usize,
        devices: &[f64],
    ) -> f64 {
        if let Some(group) = self.groups.get(place) {
            return devices[place] * (1.0 - group.memory);
        }
        if place - self.groups.len() < self.num_opened {
            return devices[place];
        }
        (self.num_micro_batches - self.num_opened) as f64 * relaxation.total_memory
    }

    /// These decisions with one more sequence in a committed group.
    pub(crate) fn with_sequence(&self, group: usize, time: f64, memory: f64) -> Self {
        let mut decisions = self.clone();
        decisions.num_decided += 1;
        decisions.groups[group].time += time;
        decisions.groups[group].memory += memory;
        decisions
    }

    /// These decisions with one more group, for one more sequence.
    pub(crate) fn with_group(&self, group: Committed) -> Self {
        let mut decisions = self.clone();
        decisions.num_decided += 1;
        decisions.num_opened = decisions.num_opened.max(group.micro_batch + 1);
        decisions.groups.push(group);
        decisions
    }
}

impl DualPrices {
    /// Prices so far on the way from these to others of the same places.
    pub(super) fn towards(&self, others: &DualPrices, part: f64) -> Self {
        let between = |from: &[f64], to: &[f64]| {
            let steps = from.iter().zip(to);
            steps.map(|(from, to)| from + part * (to - from)).collect()
        };
        DualPrices {
            time: between(&self.time, &others.time),
            memory: between(&self.memory, &others.memory),
        }
    }

    /// DualPrices for decisions that open the group at place `group` in `micro_batch`: those of where its devices were.
    pub(crate) fn with_group(
        &self,
        before: &Decisions,
        micro_batch: usize,
        all_opened: bool,
    ) -> Self {
        let mut prices = self.clone();
        let num_groups = before.groups.len();
        let from = num_groups + micro_batch;
        let (time, memory) = (self.time[from], self.memory[from]);
        if micro_batch == before.num_opened {
            // The newly opened micro-batch; the others stay behind it while there are any.
            prices.time.insert(from, time);
            prices.memory.insert(from, memory);
            if all_opened {
                prices.time.pop();
                prices.memory.pop();
            }
        }
        prices.time.insert(num_groups, time);
        prices.memory.insert(num_groups, memory);
        prices
    }
}

/// Projects time prices onto those that pay no micro-batch more than its makespan, so that it need not be bounded above.
pub(super) fn project(decisions: &Decisions, devices: &[f64], prices: &mut DualPrices) {
    let num_micro_batches = devices.len() - decisions.groups.len();
    for micro_batch in 0..num_micro_batches {
        let places = decisions.places_of(micro_batch);
        for _ in 0..3 {
            let paid: f64 = places
                .iter()
                .map(|&place| devices[place] * prices.time[place])
                .sum();
            let positive = places.iter().filter(|&&place| prices.time[place] > 0.0);
            let norm: f64 = positive.map(|&place| devices[place] * devices[place]).sum();
            if paid <= 1.0 || norm <= 0.0 {
                break;
            }
            for &place in &places {
                let price = &mut prices.time[place];
                *price = (*price - (paid - 1.0) * devices[place] / norm).max(0.0);
            }
        }
    }
}
