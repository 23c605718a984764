//! How much measured runs leave open, and which run would settle most of it.

/// The covariance of coefficients, each as a part of itself, that are known from runs.
///
/// Before any run each may be off by all of itself. A run is a row of what each coefficient's term makes of
/// its time, and its own relative error.
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
    pub fn learn(&mut self, run: &[f64], error: f64) {
        let shared = self.with(run);
        let variance = error * error + dot(&shared, run);
        if variance > 0.0 {
            for (row, &left) in self.covariance.iter_mut().zip(&shared) {
                for (entry, &right) in row.iter_mut().zip(&shared) {
                    *entry -= left * right / variance;
                }
            }
        }
    }

    /// The variance of the predicted time of a run, relative to it.
    pub fn variance(&self, run: &[f64]) -> f64 {
        dot(&self.with(run), run).max(0.0)
    }

    /// How much less the variance of `target` would be after `run` with this relative error.
    pub fn gain(&self, run: &[f64], error: f64, target: &[f64]) -> f64 {
        let shared = self.with(run);
        let variance = error * error + dot(&shared, run);
        if variance > 0.0 {
            dot(&shared, target).powi(2) / variance
        } else {
            0.0
        }
    }

    fn with(&self, run: &[f64]) -> Vec<f64> {
        self.covariance.iter().map(|row| dot(row, run)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_takes_away_the_variance_that_was_promised_and_never_adds_any(
            runs in prop::collection::vec(prop::collection::vec(0.0..1.0f64, 3), 1..6),
            target in prop::collection::vec(0.0..1.0f64, 3),
        ) {
            let mut uncertainty = Uncertainty::prior(3);
            for run in &runs {
                let before = uncertainty.variance(&target);
                let gain = uncertainty.gain(run, 0.05, &target);
                uncertainty.learn(run, 0.05);
                let after = uncertainty.variance(&target);
                prop_assert!(after <= before + 1e-12);
                prop_assert!((before - after - gain).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_run_like_the_target_tells_more_than_one_unlike_it() {
        let uncertainty = Uncertainty::prior(2);
        let target = [0.9, 0.1];
        let like = uncertainty.gain(&[0.9, 0.1], 0.05, &target);
        let unlike = uncertainty.gain(&[0.1, 0.9], 0.05, &target);
        assert!(like > 4.0 * unlike, "{like} and {unlike}");
    }
}
