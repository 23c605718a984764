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
//! short micro-batches matter as much as long ones, and no coefficient is negative.

mod least_squares;
mod uncertainty;

use lengthwise_core::{Degree, Tokens};

pub use least_squares::non_negative;
pub use uncertainty::Uncertainty;

use crate::{CostError, FittedCosts, GroupShape, Span, head_imbalance};

/// Smallest share of a token's time that exchange is taken for. Never zero, so that of two plans that seem equal
/// the one that exchanges less is chosen.
const LEAST_EXCHANGE: f64 = 1e-3;

/// Smallest seconds of exchange for a token, where noise leaves no time for computing it: a profile's bandwidths are finite.
const LEAST_EXCHANGE_S: f64 = 1e-12;

/// What a group works on in a micro-batch, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    degree: Degree,
    span: Span,
    tokens: f64,
    squares: f64,
}

impl Load {
    /// Sequences of these lengths in a group of this shape.
    pub fn new(shape: GroupShape, seq_lens: impl IntoIterator<Item = Tokens>) -> Self {
        let mut load = Load {
            degree: shape.strategy.degree(),
            span: shape.span,
            tokens: 0.0,
            squares: 0.0,
        };
        for seq_len in seq_lens {
            load.tokens += seq_len.as_f64();
            load.squares += seq_len.as_f64().powi(2);
        }
        load
    }
}

/// The terms that times are made of, each with a coefficient: overhead, linear, quadratic, and the exchanges.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTerms {
    num_heads: Option<u32>,
    /// One coefficient each, in this order, after the first three.
    exchanges: Vec<(Degree, Span)>,
}

impl TimeTerms {
    pub(crate) const OVERHEAD: usize = 0;
    const LINEAR: usize = 1;
    const QUADRATIC: usize = 2;
    const EXCHANGES: usize = 3;

    /// The terms of groups of these degrees and spans; those of degree 1 exchange nothing.
    ///
    /// `num_heads` is `None` where attention always divides evenly.
    pub fn new(
        num_heads: Option<u32>,
        exchanges: impl IntoIterator<Item = (Degree, Span)>,
    ) -> Self {
        let mut exchanges: Vec<_> = exchanges
            .into_iter()
            .filter(|&(degree, _)| degree > Degree::ONE)
            .collect();
        exchanges.sort();
        exchanges.dedup();
        TimeTerms {
            num_heads,
            exchanges,
        }
    }

    /// The terms of these costs.
    pub fn of(costs: &FittedCosts) -> Self {
        let one_node = costs.exchange_s_per_token.iter();
        let many_nodes = costs.many_nodes_exchange_s_per_token.iter();
        let exchanges = one_node
            .map(|&(degree, _)| (degree, Span::OneNode))
            .chain(many_nodes.map(|&(degree, _)| (degree, Span::ManyNodes)));
        Self::new(costs.num_heads, exchanges)
    }

    /// How many coefficients there are.
    pub fn len(&self) -> usize {
        Self::EXCHANGES + self.exchanges.len()
    }

    /// Never: there is always an overhead.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What each coefficient is multiplied by in the time of a micro-batch of groups with this load, at this pace.
    pub fn micro_batch(&self, load: &Load, pace: f64) -> Vec<f64> {
        let mut row: Vec<f64> = self.group(load).iter().map(|term| term * pace).collect();
        row[Self::OVERHEAD] = 1.0;
        row
    }

    /// The same for a group alone, without the micro-batch's overhead.
    pub fn group(&self, load: &Load) -> Vec<f64> {
        let ranks = f64::from(load.degree.get());
        let imbalance = self
            .num_heads
            .map_or(1.0, |heads| head_imbalance(heads, load.degree));
        let mut row = vec![0.0; self.len()];
        row[Self::LINEAR] = load.tokens / ranks;
        row[Self::QUADRATIC] = load.squares * imbalance / ranks;
        if let Some(place) = self.exchange(load.degree, load.span) {
            row[Self::EXCHANGES + place] = load.tokens;
        }
        row
    }

    /// The exchange that stands for groups of this degree and span: the nearest degree's, if need be of the other span.
    fn exchange(&self, degree: Degree, span: Span) -> Option<usize> {
        let distance = |&(other, of): &(Degree, Span)| {
            let log2 = |degree: Degree| f64::from(degree.get()).log2();
            (log2(other) - log2(degree)).abs() + if of == span { 0.0 } else { 1e3 }
        };
        let places = (0..self.exchanges.len()).filter(|_| degree > Degree::ONE);
        places
            .min_by(|&a, &b| distance(&self.exchanges[a]).total_cmp(&distance(&self.exchanges[b])))
    }

    /// The coefficients that costs have for these terms.
    pub(crate) fn coefficients(&self, costs: &FittedCosts) -> Vec<f64> {
        let mut coefficients = vec![
            costs.micro_batch_overhead_s,
            costs.linear_s_per_token,
            costs.quadratic_s_per_token2,
        ];
        coefficients.extend(self.exchanges.iter().map(|&(degree, span)| {
            let table = match span {
                Span::OneNode => &costs.exchange_s_per_token,
                Span::ManyNodes => &costs.many_nodes_exchange_s_per_token,
            };
            let entry = table.iter().find(|&&(of, _)| of == degree);
            entry.map_or(0.0, |&(_, seconds)| seconds)
        }));
        coefficients
    }

    /// These coefficients as costs, all else as in `costs`.
    pub(crate) fn costs(&self, coefficients: &[f64], costs: &FittedCosts) -> FittedCosts {
        let exchange = |wanted: Span| {
            let entries = self
                .exchanges
                .iter()
                .zip(&coefficients[Self::EXCHANGES..])
                .filter(move |((_, span), _)| *span == wanted);
            entries.map(|(&(degree, _), &seconds)| (degree, seconds))
        };
        FittedCosts {
            micro_batch_overhead_s: coefficients[Self::OVERHEAD],
            linear_s_per_token: coefficients[Self::LINEAR],
            quadratic_s_per_token2: coefficients[Self::QUADRATIC],
            exchange_s_per_token: exchange(Span::OneNode).collect(),
            many_nodes_exchange_s_per_token: exchange(Span::ManyNodes).collect(),
            num_heads: self.num_heads,
            ..costs.clone()
        }
    }
}

/// A measured micro-batch of equal groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What each coefficient is multiplied by ([`TimeTerms::micro_batch`]).
    pub terms: Vec<f64>,
    /// What it took; above 0.
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
    /// The coefficients, none negative, with the least squared relative errors of all observations.
    ///
    /// # Errors
    ///
    /// An observation is not finite, or the solver gives up.
    pub fn new(terms: TimeTerms, observations: &[Observation]) -> Result<Self, CostError> {
        let rows: Vec<Vec<f64>> = observations
            .iter()
            .map(|observed| {
                let factor = observed.weight / observed.seconds;
                let relative = observed.terms.iter().map(|term| term * factor);
                relative.collect()
            })
            .collect();
        let mut coefficients = if rows.is_empty() {
            vec![0.0; terms.len()]
        } else {
            let weights: Vec<f64> = observations
                .iter()
                .map(|observed| observed.weight)
                .collect();
            non_negative(&rows, &weights)?
        };
        let linear = coefficients[TimeTerms::LINEAR];
        let exchanges = coefficients[TimeTerms::EXCHANGES..].iter_mut();
        for (exchange, &(degree, _)) in exchanges.zip(&terms.exchanges) {
            let least = LEAST_EXCHANGE * linear / f64::from(degree.get());
            *exchange = exchange.max(least).max(LEAST_EXCHANGE_S);
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
    use lengthwise_core::Strategy;
    use proptest::prelude::*;

    use super::*;
    use crate::CoreSharing;

    const HEADS: u32 = 8;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    fn load(ranks: u32, seq_lens: &[u64]) -> Load {
        let strategy = Strategy::ulysses(degree(ranks), true);
        let span = if ranks > 4 {
            Span::ManyNodes
        } else {
            Span::OneNode
        };
        let shape = GroupShape { strategy, span };
        Load::new(shape, seq_lens.iter().map(|&seq_len| Tokens(seq_len)))
    }

    fn costs() -> FittedCosts {
        FittedCosts {
            quadratic_s_per_token2: 2e-8,
            linear_s_per_token: 1e-4,
            num_heads: Some(HEADS),
            exchange_s_per_token: vec![(degree(2), 4e-5), (degree(4), 2e-5)],
            many_nodes_exchange_s_per_token: vec![(degree(8), 5e-5)],
            micro_batch_overhead_s: 3e-3,
            ..FittedCosts::default()
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
        assert_eq!(back.many_nodes_exchange_s_per_token.len(), 1);
        assert_eq!(back.exchange_s_per_token.len(), 2);
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
        let terms = TimeTerms::new(None, [(degree(2), Span::OneNode)]);
        let run = |ranks, seq_len: u64, seconds| Observation {
            terms: terms.micro_batch(&load(ranks, &[seq_len]), 1.0),
            seconds,
            weight: 1.0,
        };
        let runs = [run(1, 10, 1.0), run(1, 100, 5.0), run(2, 20, 0.1)];
        let fitted = Fit::new(terms.clone(), &runs)
            .unwrap()
            .costs(&FittedCosts::default());
        assert!(fitted.quadratic_s_per_token2 >= 0.0 && fitted.linear_s_per_token > 0.0);
        assert!(fitted.exchange_s_per_token[0].1 > 0.0);
        let steeper = [run(1, 10, 1e-3), run(1, 100, 5.0)];
        let fitted = Fit::new(terms, &steeper)
            .unwrap()
            .costs(&FittedCosts::default());
        assert_eq!(fitted.linear_s_per_token, 0.0);
        assert!(fitted.exchange_s_per_token[0].1 > 0.0);
    }

    #[test]
    fn degrees_without_an_exchange_of_their_own_take_the_nearest_of_their_span() {
        let terms = TimeTerms::of(&costs());
        assert_eq!(terms.exchange(degree(3), Span::OneNode), Some(1));
        assert_eq!(terms.exchange(degree(2), Span::ManyNodes), Some(2));
        assert_eq!(terms.exchange(degree(1), Span::OneNode), None);
    }
}
