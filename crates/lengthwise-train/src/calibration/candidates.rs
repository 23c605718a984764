//! Which micro-batches may be run to measure costs, and which one tells most.

use lengthwise_cost::fitting::{Fit, Uncertainty};

use super::layout::Layout;

/// Tokens a rank in the shortest runs.
pub const SHORT: u64 = 128;

/// Relative errors are not believed to be less than this: two runs of the same differ by about as much.
const LEAST_ERROR: f64 = 0.01;

/// A micro-batch of equal groups that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its layout.
    pub layout: usize,
    /// The sequences of each group.
    pub seq_lens: Vec<u64>,
}

/// For every layout groups with one sequence, ever longer, and with several short ones, up to `most` tokens a group.
pub fn candidates(layouts: &[Layout], context: u64, most: impl Fn(usize) -> u64) -> Vec<Candidate> {
    let mut all = Vec::new();
    for (layout, Layout { degree, .. }) in layouts.iter().enumerate() {
        let mut tokens = u64::from(degree.get()) * SHORT;
        let most = most(layout);
        while tokens < 2 * most {
            let held = tokens.min(most);
            for parts in [1, 4, 16] {
                let seq_len = (held / parts).min(context);
                // As long as several short ones are not all one token.
                if parts == 1 || seq_len >= SHORT / 2 {
                    let num_sequences = (held / seq_len).min(parts);
                    all.push(Candidate {
                        layout,
                        seq_lens: vec![seq_len; num_sequences as usize],
                    });
                }
            }
            tokens *= 2;
        }
    }
    all.dedup();
    all
}

/// The candidate after which typical micro-batches are best known, for the time it takes; `None` if none may run.
///
/// `rows` are the terms of each candidate, `errors` the relative error to expect of its runs, and `is_allowed` is told
/// the seconds it is predicted to take.
pub fn most_telling(
    fit: &Fit,
    uncertainty: &Uncertainty,
    rows: &[Vec<f64>],
    errors: impl Fn(usize) -> f64,
    typical: &[usize],
    is_allowed: impl Fn(usize, f64) -> bool,
) -> Option<usize> {
    let shares: Vec<Vec<f64>> = rows.iter().map(|row| fit.shares(row)).collect();
    let worth = |candidate: usize| {
        let error = errors(candidate).max(LEAST_ERROR);
        let gains = typical
            .iter()
            .map(|&target| uncertainty.gain(&shares[candidate], error, &shares[target]));
        gains.sum::<f64>() / fit.seconds(&rows[candidate]).max(f64::MIN_POSITIVE)
    };
    let allowed =
        (0..rows.len()).filter(|&candidate| is_allowed(candidate, fit.seconds(&rows[candidate])));
    let ranked = allowed.map(|candidate| (candidate, worth(candidate)));
    ranked
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(candidate, _)| candidate)
}

/// Root of the mean squared relative error that is to be expected of typical micro-batches.
pub fn expected_error(
    fit: &Fit,
    uncertainty: &Uncertainty,
    rows: &[Vec<f64>],
    typical: &[usize],
) -> f64 {
    let variances = typical
        .iter()
        .map(|&target| uncertainty.variance(&fit.shares(&rows[target])));
    (variances.sum::<f64>() / typical.len().max(1) as f64).sqrt()
}

/// What is known after these runs, each of which has terms and a relative error.
pub fn learn<'a>(fit: &Fit, runs: impl Iterator<Item = (&'a Vec<f64>, f64)>) -> Uncertainty {
    let mut uncertainty = Uncertainty::prior(fit.terms().len());
    for (row, error) in runs {
        uncertainty.learn(&fit.shares(row), error.max(LEAST_ERROR));
    }
    uncertainty
}
