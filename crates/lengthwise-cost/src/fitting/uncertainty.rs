//! How much measured runs leave open, and which run would settle most of it.

/// The coefficients that a run says something of, with the time that each one's term adds.
///
/// Few of many, so products take only as many multiplications as there are entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features(Vec<(usize, f64)>);

impl FromIterator<(usize, f64)> for Features {
    fn from_iter<I: IntoIterator<Item = (usize, f64)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Features(entries.filter(|&(_, value)| value != 0.0).collect())
    }
}

impl Features {
    fn dot(&self, coefficients: &[f64]) -> f64 {
        let entries = self.0.iter();
        entries
            .map(|&(index, value)| coefficients[index] * value)
            .sum()
    }
}

/// The covariance of coefficients, each as a part of itself, that are known from runs.
///
/// Before any run each may be off by all of itself. A run has its features and its own relative error.
#[derive(Clone, Debug)]
pub struct Uncertainty {
    covariance: Vec<Vec<f64>>,
}

impl Uncertainty {
    /// Nothing is known of so many coefficients but their magnitude.
    pub fn prior(num_coefficients: usize) -> Self {
        let row = |place| {
            let mut row = vec![0.0; num_coefficients];
            row[place] = 1.0;
            row
        };
        Uncertainty {
            covariance: (0..num_coefficients).map(row).collect(),
        }
    }

    /// Takes in a run with this relative error: the covariance of Bayesian linear regression.
    pub fn learn(&mut self, run: &Features, error: f64) {
        let variance = error * error + self.covariance(run, run);
        if variance > 0.0 {
            let shared = self.covariance.iter().map(|row| run.dot(row));
            let Features(shared) = shared.enumerate().collect();
            for &(row, left) in &shared {
                for &(column, right) in &shared {
                    self.covariance[row][column] -= left * right / variance;
                }
            }
        }
    }

    /// The variance of the predicted time of a run, relative to it.
    pub fn variance(&self, run: &Features) -> f64 {
        self.covariance(run, run).max(0.0)
    }

    /// How much less the variance of `target` would be after `run` with this relative error.
    pub fn gain(&self, run: &Features, error: f64, target: &Features) -> f64 {
        let variance = error * error + self.covariance(run, run);
        if variance > 0.0 {
            self.covariance(run, target).powi(2) / variance
        } else {
            0.0
        }
    }

    fn covariance(&self, run: &Features, other: &Features) -> f64 {
        let entries = other.0.iter();
        entries
            .map(|&(index, value)| value * run.dot(&self.covariance[index]))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn features(values: &[f64]) -> Features {
        values.iter().copied().enumerate().collect()
    }

    proptest! {
        #[test]
        fn a_run_takes_away_the_variance_that_was_promised_and_never_adds_any(
            runs in prop::collection::vec(prop::collection::vec(0.0..1.0f64, 3), 1..6),
            target in prop::collection::vec(0.0..1.0f64, 3),
        ) {
            let mut uncertainty = Uncertainty::prior(3);
            let target = features(&target);
            for run in runs.iter().map(|run| features(run)) {
                let before = uncertainty.variance(&target);
                let gain = uncertainty.gain(&run, 0.05, &target);
                uncertainty.learn(&run, 0.05);
                let after = uncertainty.variance(&target);
                prop_assert!(after <= before + 1e-12);
                prop_assert!((before - after - gain).abs() < 1e-9);
            }
        }
    }

    proptest! {
        #[test]
        fn features_that_are_left_out_count_as_0(
            runs in prop::collection::vec(prop::collection::vec((0..8usize, 0.1..1.0f64), 1..4), 2..6),
        ) {
            // The covariance by products of whole rows, as the formula has it.
            let mut dense: Vec<Vec<f64>> = (0..8).map(|i| (0..8).map(|j| f64::from(i == j)).collect()).collect();
            let times = |dense: &[Vec<f64>], run: &[f64]| -> Vec<f64> {
                let dot = |row: &Vec<f64>| row.iter().zip(run).map(|(a, b)| a * b).sum();
                dense.iter().map(dot).collect()
            };
            let mut uncertainty = Uncertainty::prior(8);
            for entries in runs {
                let mut run = [0.0; 8];
                for (index, value) in entries {
                    run[index] = value;
                }
                let shared = times(&dense, &run);
                let told: f64 = shared.iter().zip(&run).map(|(a, b)| a * b).sum();
                prop_assert!((uncertainty.variance(&features(&run)) - told).abs() < 1e-12);
                for (row, left) in dense.iter_mut().zip(&shared) {
                    for (entry, right) in row.iter_mut().zip(&shared) {
                        *entry -= left * right / (told + 0.05f64.powi(2));
                    }
                }
                uncertainty.learn(&features(&run), 0.05);
            }
        }
    }

    #[test]
    fn a_run_like_the_target_tells_more_than_one_unlike_it() {
        let uncertainty = Uncertainty::prior(2);
        let target = features(&[0.9, 0.1]);
        let like = uncertainty.gain(&features(&[0.9, 0.1]), 0.05, &target);
        let unlike = uncertainty.gain(&features(&[0.1, 0.9]), 0.05, &target);
        assert!(like > 4.0 * unlike, "{like} and {unlike}");
    }
}
