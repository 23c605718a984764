//! From measured micro-batches to the coefficients of a [`FittedModel`](crate::FittedModel).
//!
//! A micro-batch of equal groups takes, linear in the coefficients,
//!
//! ```text
//! seconds = overhead + pace ( linear tokens / d + quadratic squares imbalance(d) / d + exchange(d, span) tokens )
//! ```
//!
//! where `tokens` and `squares` sum up the lengths of a group's sequences and their squares, and `pace` is that of
//! the ranks that compute ([`CoreSharing::pace`](crate::CoreSharing::pace)). In a ring, and where layer inputs go to the host,
//! hops and copies are known, and count as far as computing does not hide them: then what they take is added, and what
//! they hide left out, as the coefficients of the round before have it. The fit minimises relative errors, as
//! short micro-batches matter as much as long ones, and no coefficient is negative. Observations that are far off count
//! for less than by their squares (Huber's weights), and errors are relative to the prediction: relative to what was
//! measured, noise would pull predictions down.

mod drift;
mod least_squares;
mod time_terms;
mod uncertainty;

pub use drift::{Drift, Repeat};
pub use least_squares::non_negative;
pub use time_terms::{LinearTime, Load, TimeTerms, Work};
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
    /// Its work.
    pub work: Work,
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
                let predicted = fit.seconds(&observed.work);
                // An absurd prediction is not to be the measure of its own error.
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
                let time = self.time(&observed.work);
                let row = time.terms.iter().map(|term| term * factor);
                (row.collect(), (observed.seconds - time.known_s) * factor)
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

    /// The time of a micro-batch near the fitted coefficients.
    fn time(&self, work: &Work) -> LinearTime {
        self.terms.micro_batch(work, &self.coefficients)
    }

    /// Seconds that a micro-batch with this work is predicted to take.
    pub fn seconds(&self, work: &Work) -> f64 {
        self.time(work).seconds(&self.coefficients)
    }

    /// Of the predicted time, the part that each coefficient makes up; they add up to 1, but for what is known without them.
    pub fn shares(&self, work: &Work) -> Vec<f64> {
        let time = self.time(work);
        let seconds = time.seconds(&self.coefficients).max(f64::MIN_POSITIVE);
        let products = time.terms.iter().zip(&self.coefficients);
        products
            .map(|(term, coefficient)| term * coefficient / seconds)
            .collect()
    }

    /// By how much the prediction exceeds what was measured, relative to it.
    pub fn error(&self, work: &Work, measured: f64) -> f64 {
        self.seconds(work) / measured - 1.0
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
    use lengthwise_core::{Activations, Degree, Exchange, Strategy, StrategyKind, Tokens};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        CoreSharing, CostModel, FittedModel, GroupShape, HopCosts, HostCosts, KindCosts, RingCosts,
        Span,
    };

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
        let seq_lens = seq_lens.iter().map(|&seq_len| Tokens(seq_len));
        Load::new(shape(ranks), seq_lens)
    }

    /// While all ranks compute.
    fn work(ranks: u32, seq_lens: &[u64]) -> Work {
        Work {
            load: load(ranks, seq_lens),
            pace: 1.0,
        }
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
                let work = Work {
                    load: load(ranks, seq_lens),
                    pace: sharing.pace(active),
                };
                let seconds = terms.micro_batch(&work, &coefficients);
                Observation {
                    work,
                    seconds: seconds.seconds(&coefficients) * noise,
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
            assert!(fitted.error(&run.work, run.seconds).abs() < 1e-4);
            assert!((fitted.error(&run.work, 2.0 * run.seconds) + 0.5).abs() < 1e-4);
        }
    }

    #[test]
    fn shares_of_a_run_are_those_of_its_time() {
        let fitted = fit(&[]);
        for run in observations(&[]) {
            let shares = fitted.shares(&run.work);
            assert_eq!(shares.len(), fitted.coefficients.len());
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        // Beside 3 ms of overhead: a token alone takes 0.1 ms, 2,048 of them 0.2 s and as many squares 84 ms.
        let overhead = |work| fitted.shares(&work)[0];
        assert!((overhead(work(1, &[1])) - 3.0 / 3.1).abs() < 1e-3);
        let long = 2048.0 * 1e-4 + 2048.0 * 2048.0 * 2e-8;
        assert!((overhead(work(1, &[2048])) - 3e-3 / (3e-3 + long)).abs() < 1e-3);
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
            for held_out in [work(1, &[700, 300]), work(2, &[3000]), work(4, &[900; 3]), work(8, &[9000])] {
                let error = fitted.seconds(&held_out) / exact.seconds(&held_out) - 1.0;
                prop_assert!(error.abs() < 0.08, "{error} for {held_out:?}");
            }
            prop_assert!(fitted.coefficients.iter().all(|&coefficient| coefficient >= 0.0));
        }
    }

    #[test]
    fn no_coefficient_is_ever_negative_and_exchange_is_never_free() {
        let terms = TimeTerms::new(None, [shape(2)]);
        let run = |ranks, seq_len: u64, seconds| Observation {
            work: work(ranks, &[seq_len]),
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
            let held_out = work(1, &[700, 300]);
            let error = fitted.seconds(&held_out) / exact.seconds(&held_out) - 1.0;
            assert!(error.abs() < 0.03, "{error} with run {disturbed}");
        }
    }

    #[test]
    fn noise_that_goes_both_ways_moves_predictions_neither_way() {
        let noise = [0.8, 1.2, 0.8, 1.2];
        let run = work(1, &[1000]);
        let terms = TimeTerms::new(None, [shape(1)]);
        let observed = noise.map(|noise| Observation {
            work: run,
            seconds: noise,
            weight: 1.0,
        });
        let fitted = Fit::new(terms.clone(), &observed).unwrap();
        let predicted = fitted.seconds(&run);
        assert!((predicted - 1.0).abs() < 0.01, "{predicted}");
    }

    /// Costs of rings, of places with hops, and of copies to the host, which share what is the same work.
    fn costs_of_all_kinds() -> FittedCosts {
        let mut costs = FittedCosts {
            num_heads: Some(HEADS),
            micro_batch_overhead_s: 1e-3,
            ..FittedCosts::default()
        };
        for exchange in [Exchange::Ulysses, Exchange::Ring] {
            for activations in Activations::ALL {
                let (linear, quadratic, passes) = match activations {
                    Activations::Keep => (1.5e-4, 2e-8, 2.0),
                    Activations::Recompute => (2e-4, 3e-8, 3.0),
                    Activations::Host => (2.2e-4, 3e-8, 3.0),
                };
                let ring = RingCosts {
                    forward_share: 0.4,
                    one_node: HopCosts {
                        forward_s_per_token: vec![(degree(4), 5e-5)],
                        backward_s_per_token: vec![(degree(4), 1e-4)],
                    },
                    many_nodes: HopCosts::default(),
                };
                let host = HostCosts {
                    forward_share: 0.25,
                    copy_s_per_token: 1e-4,
                    bytes_per_token: 1.0,
                };
                let costs_of_kind = KindCosts {
                    linear_s_per_token: linear,
                    quadratic_s_per_token2: quadratic,
                    constant_s_per_sequence: 3e-4,
                    exchange_s_per_token: vec![(degree(4), 1e-5 * passes)],
                    ring: (exchange == Exchange::Ring).then_some(ring),
                    host: (activations == Activations::Host).then_some(host),
                    ..KindCosts::default()
                };
                let kind = StrategyKind {
                    exchange,
                    activations,
                };
                costs.kinds.insert(kind, costs_of_kind);
            }
        }
        costs
    }

    #[test]
    fn kinds_share_what_is_the_same_work_and_what_hides_is_left_out() {
        let costs = costs_of_all_kinds();
        let strategies = |ranks| {
            let ranks = degree(ranks);
            Activations::ALL.into_iter().flat_map(move |activations| {
                [
                    Strategy::ulysses(ranks, activations),
                    Strategy::ring(ranks, activations),
                ]
            })
        };
        let shape = |strategy| GroupShape {
            strategy,
            span: Span::OneNode,
        };
        let shapes = strategies(4).map(shape);
        let terms = TimeTerms::shared(costs.num_heads, shapes).beside(&costs);
        // Overhead; three linear and two quadratic ones; exchanges of each kind of group.
        assert_eq!((terms.len(), TimeTerms::of(&costs).len()), (8, 8));
        let model = FittedModel::new(costs.clone()).unwrap();
        let work = |strategy, seq_len| Work {
            load: Load::new(shape(strategy), [Tokens(seq_len)]),
            pace: 1.0,
        };
        let seconds = |strategy, seq_len| {
            costs.micro_batch_overhead_s
                + model.sequence_time(shape(strategy), Tokens(seq_len)).get()
        };
        let of_all = terms.coefficients(&costs);
        for strategy in strategies(1).chain(strategies(4)) {
            for seq_len in [100, 1000, 10_000, 100_000] {
                let work = work(strategy, seq_len);
                let linear = terms.micro_batch(&work, &of_all).seconds(&of_all);
                let exact = seconds(strategy, seq_len);
                assert!((linear / exact - 1.0).abs() < 1e-12, "{strategy} {seq_len}");
            }
        }
        // Rings and copies are measured with some choices only, and known with the others.
        let measured = [
            Strategy::ulysses(degree(1), Activations::Recompute),
            Strategy::ulysses(degree(1), Activations::Keep),
            Strategy::ulysses(degree(1), Activations::Host),
            Strategy::ulysses(degree(4), Activations::Recompute),
            Strategy::ring(degree(4), Activations::Recompute),
        ];
        let observed = measured.into_iter().flat_map(|strategy| {
            [1, 300, 3000, 30_000].map(|seq_len| Observation {
                work: work(strategy, seq_len),
                seconds: seconds(strategy, seq_len),
                weight: 1.0,
            })
        });
        let fit = Fit::new(terms, &observed.collect::<Vec<_>>()).unwrap();
        for strategy in strategies(4) {
            for seq_len in [200, 2000, 20_000] {
                let error = fit.error(&work(strategy, seq_len), seconds(strategy, seq_len));
                assert!(error.abs() < 1e-3, "{error} for {strategy} {seq_len}");
            }
        }
    }
}
