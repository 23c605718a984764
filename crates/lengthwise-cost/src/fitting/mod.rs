//! From measured micro-batches to the coefficients of a [`FittedModel`](crate::FittedModel).
//!
//! A micro-batch of equal groups takes, linear in the coefficients,
//!
//! ```text
//! seconds = overhead + pace ( linear tokens / d + quadratic squares imbalance(d) / d + exchange(d, span) tokens )
//! ```
//!
//! where `tokens` and `squares` sum up the lengths of a group's sequences and their squares, and `pace` is that of
//! the ranks that compute ([`CoreSharing::pace`](crate::CoreSharing::pace)). The fit minimises relative errors, as
//! short micro-batches matter as much as long ones, and no coefficient is negative. Observations that are far off count
//! for less than by their squares (Huber's weights), and errors are relative to the prediction: relative to what was
//! measured, noise would pull predictions down.

mod drift;
mod least_squares;
mod time_terms;
mod uncertainty;

pub use drift::{Drift, Repeat};
pub use least_squares::non_negative;
pub use time_terms::{Load, TimeTerms};
pub use uncertainty::{Features, Uncertainty};

use crate::{CostError, FittedCosts};
use drift::median;

/// Smallest share of a token's time that exchange is taken for. Never zero, so that of two plans that seem equal
/// the one that exchanges less is chosen.
const LEAST_EXCHANGE: f64 = 1e-3;

/// Smallest seconds of exchange for a token, where noise leaves no time for computing it: a profile's bandwidths are finite.
const LEAST_EXCHANGE_S: f64 = 1e-12;

/// How often observations are weighted by the errors of the fit before; the weights hardly change by then.
const NUM_REWEIGHTINGS: usize = 6;

/// An error is unusual from this multiple of the median on: 1.345 standard deviations, by which Huber's estimate
/// is nearly as good as least squares where errors are normal, and those are 1.48 medians each.
const MOST_USUAL: f64 = 1.345 * 1.48;

/// No error smaller than this is unusual.
const LEAST_USUAL: f64 = 0.01;

/// A measured micro-batch of equal groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The factor of each coefficient ([`TimeTerms::micro_batch`]).
    pub terms: Vec<f64>,
    /// The measured time; above 0.
    pub seconds: f64,
    /// How much its relative error counts.
    pub weight: f64,
}

/// Coefficients that fit observations.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    terms: TimeTerms,
    coefficients: Vec<f64>,
}

impl Fit {
    /// The coefficients, none negative, with the least relative errors of all observations: squared where they are
    /// about as large as most, else linear.
    ///
    /// # Errors
    ///
    /// An observation is not finite, or the solver gives up.
    pub fn new(terms: TimeTerms, observations: &[Observation]) -> Result<Self, CostError> {
        let mut fit = Fit {
            coefficients: vec![0.0; terms.len()],
            terms,
        };
        if observations.is_empty() {
            return fit.with_least_exchange();
        }
        let mut factors: Vec<f64> = observations
            .iter()
            .map(|observed| observed.weight / observed.seconds)
            .collect();
        for _ in 0..NUM_REWEIGHTINGS {
            fit = fit.reweighted(observations, &factors)?;
            let errors = observations.iter().map(|observed| {
                let predicted = fit.seconds(&observed.terms);
                // What is predicted absurdly is not to be the measure of its own error.
                let scale = predicted.clamp(observed.seconds / 2.0, 2.0 * observed.seconds);
                ((predicted - observed.seconds).abs() / scale, scale)
            });
            let errors: Vec<(f64, f64)> = errors.collect();
            let usual = median(errors.iter().map(|&(error, _)| error));
            let usual = (MOST_USUAL * usual).max(LEAST_USUAL);
            let weighted = observations.iter().zip(&errors);
            factors = weighted
                .map(|(observed, &(error, scale))| {
                    observed.weight / scale * (usual / error.max(usual)).sqrt()
                })
                .collect();
        }
        fit.with_least_exchange()
    }

    /// Least squares, with what each observation's error is multiplied by.
    fn reweighted(self, observations: &[Observation], factors: &[f64]) -> Result<Self, CostError> {
        let weighted = observations.iter().zip(factors);
        let (rows, values): (Vec<Vec<f64>>, Vec<f64>) = weighted
            .map(|(observed, factor)| {
                let row = observed.terms.iter().map(|term| term * factor);
                (row.collect(), observed.seconds * factor)
            })
            .unzip();
        Ok(Fit {
            coefficients: non_negative(&rows, &values)?,
            ..self
        })
    }

    fn with_least_exchange(self) -> Result<Self, CostError> {
        let Fit {
            terms,
            mut coefficients,
        } = self;
        for (exchange, linear, degree) in terms.exchanges() {
            let least = LEAST_EXCHANGE * coefficients[linear] / f64::from(degree.get());
            coefficients[exchange] = coefficients[exchange].max(least).max(LEAST_EXCHANGE_S);
        }
        Ok(Fit {
            terms,
            coefficients,
        })
    }

    /// Seconds that a micro-batch with these terms is predicted to take.
    pub fn seconds(&self, terms: &[f64]) -> f64 {
        let products = terms.iter().zip(&self.coefficients);
        products.map(|(term, coefficient)| term * coefficient).sum()
    }

    /// Of the predicted time with these terms, the part that each coefficient makes up; they add up to 1.
    pub fn shares(&self, terms: &[f64]) -> Vec<f64> {
        let seconds = self.seconds(terms).max(f64::MIN_POSITIVE);
        let products = terms.iter().zip(&self.coefficients);
        products
            .map(|(term, coefficient)| term * coefficient / seconds)
            .collect()
    }

    /// By how much the prediction with these terms exceeds what was measured, relative to it.
    pub fn error(&self, terms: &[f64], measured: f64) -> f64 {
        self.seconds(terms) / measured - 1.0
    }

    /// The terms it has coefficients for.
    pub fn terms(&self) -> &TimeTerms {
        &self.terms
    }

    /// The fitted costs, with the memory of `costs`.
    pub fn costs(&self, costs: &FittedCosts) -> FittedCosts {
        self.terms.costs(&self.coefficients, costs)
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, Degree, Strategy, StrategyKind, Tokens};
    use proptest::prelude::*;

    use super::*;
    use crate::{CoreSharing, GroupShape, KindCosts, Span};

    const HEADS: u32 = 8;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    const KIND: StrategyKind = StrategyKind::ulysses(Activations::Recompute);

    fn shape(ranks: u32) -> GroupShape {
        let strategy = Strategy::ulysses(degree(ranks), KIND.activations);
        let span = if ranks > 4 {
            Span::ManyNodes
        } else {
            Span::OneNode
        };
        GroupShape { strategy, span }
    }

    fn load(ranks: u32, seq_lens: &[u64]) -> Load {
        Load::new(
            shape(ranks),
            seq_lens.iter().map(|&seq_len| Tokens(seq_len)),
        )
    }

    fn costs() -> FittedCosts {
        let costs = KindCosts {
            quadratic_s_per_token2: 2e-8,
            linear_s_per_token: 1e-4,
            exchange_s_per_token: vec![(degree(2), 4e-5), (degree(4), 2e-5)],
            many_nodes_exchange_s_per_token: vec![(degree(8), 5e-5)],
            ..KindCosts::default()
        };
        FittedCosts {
            num_heads: Some(HEADS),
            micro_batch_overhead_s: 3e-3,
            ..FittedCosts::of_kind(KIND, costs)
        }
    }

    /// Runs that follow the formula, but for these factors.
    fn observations(noise: &[f64]) -> Vec<Observation> {
        let terms = TimeTerms::of(&costs());
        let coefficients = terms.coefficients(&costs());
        let runs: [(u32, &[u64]); 12] = [
            (1, &[1]),
            (1, &[128]),
            (1, &[512, 512]),
            (1, &[2048]),
            (2, &[256]),
            (2, &[2048, 100]),
            (4, &[512]),
            (4, &[4096]),
            (8, &[8]),
            (8, &[1024, 1024]),
            (8, &[4096]),
            (8, &[16384]),
        ];
        let sharing = CoreSharing::new(8, 2);
        let observed = runs.iter().zip(noise.iter().chain(std::iter::repeat(&1.0)));
        observed
            .map(|(&(ranks, seq_lens), noise)| {
                // With 3 groups of 2 some ranks idle.
                let active = if ranks == 2 { 6 } else { 8 };
                let terms = terms.micro_batch(&load(ranks, seq_lens), sharing.pace(active));
                let seconds: f64 = terms.iter().zip(&coefficients).map(|(a, b)| a * b).sum();
                Observation {
                    terms,
                    seconds: seconds * noise,
                    weight: 1.0,
                }
            })
            .collect()
    }

    fn fit(noise: &[f64]) -> Fit {
        Fit::new(TimeTerms::of(&costs()), &observations(noise)).unwrap()
    }

    #[test]
    fn errors_are_relative_to_what_was_measured() {
        let fitted = fit(&[]);
        for run in observations(&[]) {
            assert!(fitted.error(&run.terms, run.seconds).abs() < 1e-4);
            assert!((fitted.error(&run.terms, 2.0 * run.seconds) + 0.5).abs() < 1e-4);
        }
    }

    #[test]
    fn runs_that_follow_the_formula_give_back_its_coefficients() {
        let fitted = fit(&[]);
        let expected = fitted.terms.coefficients(&costs());
        for (fitted, expected) in fitted.coefficients.iter().zip(&expected) {
            assert!(
                (fitted / expected - 1.0).abs() < 1e-4,
                "{fitted} is not {expected}"
            );
        }
        let back = fitted.costs(&costs());
        assert_eq!(back.kinds[&KIND].many_nodes_exchange_s_per_token.len(), 1);
        assert_eq!(back.kinds[&KIND].exchange_s_per_token.len(), 2);
    }

    proptest! {
        #[test]
        fn noise_moves_predictions_of_other_runs_by_little_more_than_itself(
            noise in prop::collection::vec(0.95..1.05f64, 12),
        ) {
            let fitted = fit(&noise);
            let exact = fit(&[]);
            for held_out in [load(1, &[700, 300]), load(2, &[3000]), load(4, &[900; 3]), load(8, &[9000])] {
                let terms = fitted.terms.micro_batch(&held_out, 1.0);
                let error = fitted.seconds(&terms) / exact.seconds(&terms) - 1.0;
                prop_assert!(error.abs() < 0.08, "{error} for {held_out:?}");
            }
            prop_assert!(fitted.coefficients.iter().all(|&coefficient| coefficient >= 0.0));
        }
    }

    #[test]
    fn no_coefficient_is_ever_negative_and_exchange_is_never_free() {
        let terms = TimeTerms::new(None, [shape(2)]);
        let run = |ranks, seq_len: u64, seconds| Observation {
            terms: terms.micro_batch(&load(ranks, &[seq_len]), 1.0),
            seconds,
            weight: 1.0,
        };
        let runs = [run(1, 10, 1.0), run(1, 100, 5.0), run(2, 20, 0.1)];
        let fitted = |runs: &[Observation]| {
            let fit = Fit::new(terms.clone(), runs).unwrap();
            fit.costs(&FittedCosts::default()).kinds[&KIND].clone()
        };
        let costs = fitted(&runs);
        assert!(costs.quadratic_s_per_token2 >= 0.0 && costs.linear_s_per_token > 0.0);
        assert!(costs.exchange_s_per_token[0].1 > 0.0);
        let steeper = [run(1, 10, 1e-3), run(1, 100, 5.0)];
        let costs = fitted(&steeper);
        assert_eq!(costs.linear_s_per_token, 0.0);
        assert!(costs.exchange_s_per_token[0].1 > 0.0);
    }

    #[test]
    fn one_disturbed_run_moves_predictions_of_others_by_little() {
        let exact = fit(&[]);
        for disturbed in 0..12 {
            let mut noise = [1.0; 12];
            noise[disturbed] = 1.5;
            let fitted = fit(&noise);
            // Only of degrees that others tell of too.
            let terms = fitted.terms.micro_batch(&load(1, &[700, 300]), 1.0);
            let error = fitted.seconds(&terms) / exact.seconds(&terms) - 1.0;
            assert!(error.abs() < 0.03, "{error} with run {disturbed}");
        }
    }

    #[test]
    fn noise_that_goes_both_ways_moves_predictions_neither_way() {
        let noise = [0.8, 1.2, 0.8, 1.2];
        let run = load(1, &[1000]);
        let terms = TimeTerms::new(None, [shape(1)]);
        let observed = noise.map(|noise| Observation {
            terms: terms.micro_batch(&run, 1.0),
            seconds: noise,
            weight: 1.0,
        });
        let fitted = Fit::new(terms.clone(), &observed).unwrap();
        let predicted = fitted.seconds(&terms.micro_batch(&run, 1.0));
        assert!((predicted - 1.0).abs() < 0.01, "{predicted}");
    }
}
