//! How a machine's speed wandered while it was measured, by one micro-batch that was run again and again.
//!
//! ```text
//! slowness(t) = median of the k runs nearest to t / median of all      k as it predicts each run best from the others
//! typical     = median of the runs of a micro-batch, each divided by the slowness when it ran
//! ```
//!
//! Medians, since other work on the machine disturbs some runs by a multiple of what it does to most.

use lengthwise_core::Seconds;

/// A run of a micro-batch that is run several times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeat {
    /// When it was half done, since measuring began.
    pub at: Seconds,
    /// How long it took; above 0.
    pub took: Seconds,
}

/// The machine's slowness over time, relative to its median while it was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drift {
    /// When, and the logarithm of the slowness that a single run shows.
    runs: Vec<(f64, f64)>,
    /// A moment's slowness is the median of so many runs near it.
    num_nearest: usize,
    /// The mean error of slowness as it predicts a run from the others.
    error: f64,
}

/// Numbers of runs that a moment's slowness may be the median of.
const NEAREST: [usize; 6] = [2, 3, 5, 9, 17, 33];

/// With fewer runs than this nothing is known of noise.
const LEAST_RUNS: usize = 3;

impl Drift {
    /// By the runs of one micro-batch, spread over the measurement; of few runs, none.
    pub fn of(reference: &[Repeat]) -> Self {
        if reference.len() < LEAST_RUNS {
            return Drift::default();
        }
        let typical = median(reference.iter().map(|run| run.took.get().ln()));
        let runs: Vec<(f64, f64)> = reference
            .iter()
            .map(|run| (run.at.get(), run.took.get().ln() - typical))
            .collect();
        let others = runs.len() - 1;
        let numbers = NEAREST.into_iter().filter(|&number| number < others);
        let error_of = |num_nearest: usize| {
            let errors = (0..runs.len()).map(|index| {
                let (at, slowness) = runs[index];
                (nearest(&runs, at, Some(index), num_nearest) - slowness).abs()
            });
            errors.sum::<f64>() / runs.len() as f64
        };
        let ranked = numbers
            .chain([others])
            .map(|number| (number, error_of(number)));
        let best = ranked.min_by(|a, b| a.1.total_cmp(&b.1));
        let (num_nearest, error) = best.unwrap_or((others, 0.0));
        Drift {
            // All others is no drift: the median of all.
            num_nearest: if num_nearest == others {
                runs.len()
            } else {
                num_nearest
            },
            runs,
            error,
        }
    }

    /// How much longer than at its median speed the machine took at this moment: 1 where it is not known.
    pub fn slowness(&self, at: Seconds) -> f64 {
        nearest(&self.runs, at.get(), None, self.num_nearest).exp()
    }

    /// The time of a micro-batch at the machine's median speed; `None` if it has not run.
    pub fn typical(&self, runs: &[Repeat]) -> Option<Seconds> {
        let at_median_speed = runs
            .iter()
            .map(|run| run.took.get() / self.slowness(run.at));
        let typical = (!runs.is_empty()).then(|| median(at_median_speed));
        typical.and_then(|seconds| Seconds::new(seconds).ok())
    }

    /// The mean deviation of the runs of one micro-batch from their median, relative to it; `None` of few runs.
    pub fn noise(&self) -> Option<f64> {
        let deviations = self
            .runs
            .iter()
            .map(|&(_, slowness)| slowness.exp_m1().abs());
        (!self.runs.is_empty()).then(|| deviations.sum::<f64>() / self.runs.len() as f64)
    }

    /// The rest of it where the machine's slowness is known from runs before and after; `None` of few runs.
    pub fn noise_left(&self) -> Option<f64> {
        (!self.runs.is_empty()).then_some(self.error)
    }
}

/// The median of the so many runs that are nearest in time, but for the left-out one; 0 of none.
fn nearest(runs: &[(f64, f64)], at: f64, left_out: Option<usize>, number: usize) -> f64 {
    let others = (0..runs.len()).filter(|&index| Some(index) != left_out);
    let mut others: Vec<(f64, f64)> = others.map(|index| runs[index]).collect();
    others.sort_by(|a, b| (a.0 - at).abs().total_cmp(&(b.0 - at).abs()));
    median(others.iter().take(number).map(|&(_, slowness)| slowness))
}

/// The middle of the values, or the mean of the two in the middle; 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len => (values[(len - 1) / 2] + values[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeat(at: f64, took: f64) -> Repeat {
        Repeat {
            at: Seconds::new(at).unwrap(),
            took: Seconds::new(took).unwrap(),
        }
    }

    /// Half a second at a speed that falls to half after 20 of 60 runs.
    fn halved(disturbed: usize) -> Drift {
        let took = |index: usize| match index {
            _ if index == disturbed => 5.0,
            0..20 => 0.25,
            _ => 0.5,
        };
        let runs: Vec<Repeat> = (0..60).map(|i| repeat(i as f64, took(i))).collect();
        Drift::of(&runs)
    }

    #[test]
    fn runs_before_and_after_a_change_of_speed_are_typical_alike_even_where_one_is_disturbed() {
        for disturbed in [7, 40, 60] {
            let drift = halved(disturbed);
            let runs = [repeat(5.5, 1.0), repeat(40.5, 2.0), repeat(55.5, 2.0)];
            let typical = drift.typical(&runs).unwrap().get();
            assert!((typical - 2.0).abs() < 1e-9, "{typical} with {disturbed}");
            assert!(drift.noise().unwrap() > 0.15 && drift.noise_left().unwrap() < 0.07);
        }
        assert_eq!(halved(60).typical(&[]), None);
    }

    #[test]
    fn noise_without_drift_is_not_taken_for_drift() {
        let mut state = 1u64;
        let mut took = |_: u64| {
            // Knuth's generator: without any order in time.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            1.0 + 0.1 * ((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        };
        let runs: Vec<Repeat> = (0..60).map(|i| repeat(i as f64, took(i))).collect();
        let drift = Drift::of(&runs);
        for run in &runs {
            assert!((drift.slowness(run.at) - 1.0).abs() < 0.06, "{drift:?}");
        }
        let (noise, left) = (drift.noise().unwrap(), drift.noise_left().unwrap());
        assert!(
            (0.04..0.06).contains(&noise) && left < 1.2 * noise,
            "{noise} {left}"
        );
    }

    #[test]
    fn of_few_runs_nothing_is_known() {
        let drift = Drift::of(&[repeat(0.0, 1.0), repeat(1.0, 2.0)]);
        assert_eq!((drift.noise(), drift.noise_left()), (None, None));
        assert_eq!(drift.slowness(Seconds::ZERO), 1.0);
        assert_eq!(drift.typical(&[repeat(0.0, 3.0)]), Seconds::new(3.0).ok());
    }
}
