//! Ranks that share the cores of one machine, and how long their groups take then.

use lengthwise_core::{Degree, Seconds};

/// How the ranks of a job share processor cores.
///
/// Costs are measured while all ranks compute. Where there are fewer cores than ranks, a rank that has nothing to do
/// leaves its turns to the others, so a micro-batch that leaves ranks idle is faster than its slowest group would be
/// among busy ones:
///
/// ```
/// use lengthwise_core::{Degree, Seconds};
/// use lengthwise_cost::CoreSharing;
///
/// let groups = [(Degree::new(6)?, Seconds::new(4.0)?), (Degree::new(2)?, Seconds::new(1.0)?)];
/// // Eight ranks take turns on two cores for a second, then six of them have the cores to themselves.
/// let shared = CoreSharing::new(8, 2).end_times(&groups);
/// assert_eq!(shared, [Seconds::new(1.0 + 3.0 * 6.0 / 8.0)?, Seconds::new(1.0)?]);
/// let apart = CoreSharing::apart(8).end_times(&groups);
/// assert_eq!(apart, [Seconds::new(4.0)?, Seconds::new(1.0)?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreSharing {
    num_ranks: u32,
    num_cores: u32,
}

impl CoreSharing {
    /// So many ranks take turns on so many cores; both are taken for at least 1.
    pub fn new(num_ranks: u32, num_cores: u32) -> Self {
        let num_ranks = num_ranks.max(1);
        CoreSharing {
            num_ranks,
            num_cores: num_cores.clamp(1, num_ranks),
        }
    }

    /// Every rank has a device of its own.
    pub fn apart(num_ranks: u32) -> Self {
        Self::new(num_ranks, num_ranks)
    }

    /// How many cores the ranks use.
    pub fn num_cores(self) -> u32 {
        self.num_cores
    }

    /// Whether ranks have to take turns.
    pub fn is_shared(self) -> bool {
        self.num_cores < self.num_ranks
    }

    /// How long something takes while so many ranks compute, as a part of what it takes while all do.
    pub fn pace(self, num_active: u32) -> f64 {
        let competing = num_active.clamp(self.num_cores, self.num_ranks);
        f64::from(competing) / f64::from(self.num_ranks)
    }

    /// When each of the groups of a micro-batch ends, by their degrees and what they take while all ranks compute.
    pub fn end_times(self, groups: &[(Degree, Seconds)]) -> Vec<Seconds> {
        let times: Vec<f64> = groups.iter().map(|&(_, time)| time.get()).collect();
        let weights = self.weights(groups).into_iter();
        let end = |weights: Vec<f64>| {
            let end: f64 = weights.iter().zip(&times).map(|(w, time)| w * time).sum();
            Seconds::new(end.min(f64::MAX)).unwrap_or(Seconds::ZERO)
        };
        weights.map(end).collect()
    }

    /// For each group, what the time of each group counts for when it ends: the end times are this matrix times
    /// the groups' times, as long as their order stays.
    pub(crate) fn weights(self, groups: &[(Degree, Seconds)]) -> Vec<Vec<f64>> {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by(|&a, &b| groups[a].1.get().total_cmp(&groups[b].1.get()));
        // The pace while a group is the fastest of those that are left.
        let mut num_active: u32 = groups.iter().map(|(degree, _)| degree.get()).sum();
        let mut paces = Vec::with_capacity(groups.len());
        for &group in &order {
            paces.push(self.pace(num_active));
            num_active -= groups[group].0.get();
        }
        let mut weights = vec![vec![0.0; groups.len()]; groups.len()];
        for (place, &group) in order.iter().enumerate() {
            for (earlier, &other) in order[..place].iter().enumerate() {
                weights[group][other] = paces[earlier] - paces[earlier + 1];
            }
            weights[group][group] = paces[place];
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(times: &[(u32, f64)]) -> Vec<(Degree, Seconds)> {
        let group = |&(degree, time)| (Degree::new(degree).unwrap(), Seconds::new(time).unwrap());
        times.iter().map(group).collect()
    }

    proptest! {
        #[test]
        fn cores_are_never_idle_while_enough_ranks_compute_and_never_overcommitted(
            times in prop::collection::vec((1u32..5, 0.0..10.0f64), 1..6),
            num_cores in 1u32..24,
        ) {
            let num_ranks = times.iter().map(|&(degree, _)| degree).sum::<u32>();
            let sharing = CoreSharing::new(num_ranks, num_cores);
            let ends: Vec<f64> =
                sharing.end_times(&groups(&times)).into_iter().map(Seconds::get).collect();
            let num_cores = f64::from(num_cores.min(num_ranks));
            // In core-seconds; a group's time is for a full machine, where a rank has a share of the cores.
            let share = num_cores / f64::from(num_ranks);
            let work: f64 = times.iter().map(|&(degree, time)| f64::from(degree) * time * share).sum();
            let last = ends.iter().copied().fold(0.0, f64::max);
            prop_assert!(last * num_cores >= work * (1.0 - 1e-9));
            let slowest = times.iter().map(|&(_, time)| time).fold(0.0, f64::max);
            prop_assert!(last <= slowest * (1.0 + 1e-9));
            prop_assert!(last >= slowest * share * (1.0 - 1e-9));
            for (&(_, time), &end) in times.iter().zip(&ends) {
                prop_assert!(end <= time * (1.0 + 1e-9));
            }
        }
    }

    #[test]
    fn equal_groups_on_a_full_machine_take_what_was_measured() {
        let sharing = CoreSharing::new(8, 2);
        let ends: Vec<_> = sharing
            .end_times(&groups(&[(4, 2.0), (4, 2.0)]))
            .into_iter()
            .map(Seconds::get)
            .collect();
        assert_eq!(ends, [2.0, 2.0]);
        assert_eq!(sharing.pace(1), 0.25);
        assert!(sharing.is_shared() && !CoreSharing::new(2, 8).is_shared());
    }
}
