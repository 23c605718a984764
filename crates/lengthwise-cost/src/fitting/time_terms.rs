//! The time of a micro-batch, linear in the coefficients of its costs.

use lengthwise_core::{Degree, StrategyKind, Tokens};

use crate::{FittedCosts, GroupShape, KindCosts, Span, head_imbalance};

/// The load of a group in a micro-batch, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    kind: StrategyKind,
    degree: Degree,
    span: Span,
    tokens: f64,
    squares: f64,
}

impl Load {
    /// Sequences of these lengths in a group of this shape.
    pub fn new(shape: GroupShape, seq_lens: impl IntoIterator<Item = Tokens>) -> Self {
        let mut load = Load {
            kind: shape.strategy.kind(),
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

/// The terms that times are made of, each with a coefficient: overhead; linear and quadratic for each kind of
/// strategy; and the exchanges.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTerms {
    num_heads: Option<u32>,
    /// Two coefficients each, in this order, after the overhead.
    kinds: Vec<StrategyKind>,
    /// One coefficient each, in this order, after those.
    exchanges: Vec<(StrategyKind, Degree, Span)>,
}

impl TimeTerms {
    pub(crate) const OVERHEAD: usize = 0;

    /// The terms of groups of these shapes; those of degree 1 exchange nothing.
    ///
    /// `num_heads` is `None` where attention always divides evenly.
    pub fn new(num_heads: Option<u32>, shapes: impl IntoIterator<Item = GroupShape>) -> Self {
        let (mut kinds, mut exchanges) = (Vec::new(), Vec::new());
        for GroupShape { strategy, span } in shapes {
            kinds.push(strategy.kind());
            exchanges.push((strategy.kind(), strategy.degree(), span));
        }
        Self::of_parts(num_heads, kinds, exchanges)
    }

    /// The terms of these costs.
    pub fn of(costs: &FittedCosts) -> Self {
        let kinds = costs.kinds.keys().copied().collect();
        let exchanges = costs.kinds.iter().flat_map(|(&kind, costs)| {
            let one_node = costs.exchange_s_per_token.iter();
            let many_nodes = costs.many_nodes_exchange_s_per_token.iter();
            one_node
                .map(move |&(degree, _)| (kind, degree, Span::OneNode))
                .chain(many_nodes.map(move |&(degree, _)| (kind, degree, Span::ManyNodes)))
        });
        Self::of_parts(costs.num_heads, kinds, exchanges.collect())
    }

    fn of_parts(
        num_heads: Option<u32>,
        mut kinds: Vec<StrategyKind>,
        mut exchanges: Vec<(StrategyKind, Degree, Span)>,
    ) -> Self {
        kinds.sort();
        kinds.dedup();
        exchanges.retain(|&(_, degree, _)| degree > Degree::ONE);
        exchanges.sort();
        exchanges.dedup();
        TimeTerms {
            num_heads,
            kinds,
            exchanges,
        }
    }

    /// How many coefficients there are.
    pub fn len(&self) -> usize {
        self.first_exchange() + self.exchanges.len()
    }

    /// Never: there is always an overhead.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the coefficients of a kind's tokens are, and of their squares.
    fn linear_and_quadratic(kind: usize) -> (usize, usize) {
        (1 + 2 * kind, 2 + 2 * kind)
    }

    fn first_exchange(&self) -> usize {
        1 + 2 * self.kinds.len()
    }

    /// The factor of each coefficient in the time of a micro-batch of groups with this load, at this pace.
    pub fn micro_batch(&self, load: &Load, pace: f64) -> Vec<f64> {
        let mut row: Vec<f64> = self.group(load).iter().map(|term| term * pace).collect();
        row[Self::OVERHEAD] = 1.0;
        row
    }

    /// The same for a group alone, without the micro-batch's overhead; where its degree and span have no exchange of
    /// their own, without one.
    pub fn group(&self, load: &Load) -> Vec<f64> {
        self.group_with_exchange(load, [((load.kind, load.degree, load.span), 1.0)])
    }

    /// The same where what a token's exchange takes is a sum of exchanges, each so many times.
    pub(crate) fn group_with_exchange(
        &self,
        load: &Load,
        exchange: impl IntoIterator<Item = ((StrategyKind, Degree, Span), f64)>,
    ) -> Vec<f64> {
        let ranks = f64::from(load.degree.get());
        let imbalance = self
            .num_heads
            .map_or(1.0, |heads| head_imbalance(heads, load.degree));
        let mut row = vec![0.0; self.len()];
        if let Ok(kind) = self.kinds.binary_search(&load.kind) {
            let (linear, quadratic) = Self::linear_and_quadratic(kind);
            row[linear] = load.tokens / ranks;
            row[quadratic] = load.squares * imbalance / ranks;
        }
        for (listed, times) in exchange {
            if let Ok(place) = self.exchanges.binary_search(&listed) {
                row[self.first_exchange() + place] = times * load.tokens;
            }
        }
        row
    }

    /// The coefficients that costs have for these terms.
    pub(crate) fn coefficients(&self, costs: &FittedCosts) -> Vec<f64> {
        let of_kind = |kind: StrategyKind| costs.kinds.get(&kind);
        let mut coefficients = vec![costs.micro_batch_overhead_s];
        for &kind in &self.kinds {
            let costs = of_kind(kind);
            coefficients.push(costs.map_or(0.0, |costs| costs.linear_s_per_token));
            coefficients.push(costs.map_or(0.0, |costs| costs.quadratic_s_per_token2));
        }
        coefficients.extend(self.exchanges.iter().map(|&(kind, degree, span)| {
            let table = of_kind(kind).map_or(&[][..], |costs| match span {
                Span::OneNode => &costs.exchange_s_per_token,
                Span::ManyNodes => &costs.many_nodes_exchange_s_per_token,
            });
            let entry = table.iter().find(|&&(of, _)| of == degree);
            entry.map_or(0.0, |&(_, seconds)| seconds)
        }));
        coefficients
    }

    /// These coefficients as costs, all else as in `costs`.
    pub(crate) fn costs(&self, coefficients: &[f64], costs: &FittedCosts) -> FittedCosts {
        let exchange = |wanted: StrategyKind, on: Span| {
            let entries = self
                .exchanges
                .iter()
                .zip(&coefficients[self.first_exchange()..])
                .filter(|&(&(kind, _, span), _)| kind == wanted && span == on);
            entries
                .map(|(&(_, degree, _), &seconds)| (degree, seconds))
                .collect()
        };
        let kinds = self.kinds.iter().enumerate().map(|(place, &kind)| {
            let (linear, quadratic) = Self::linear_and_quadratic(place);
            let unfitted = costs.kinds.get(&kind);
            let kind_costs = KindCosts {
                quadratic_s_per_token2: coefficients[quadratic],
                linear_s_per_token: coefficients[linear],
                constant_s_per_sequence: 0.0,
                exchange_s_per_token: exchange(kind, Span::OneNode),
                many_nodes_exchange_s_per_token: exchange(kind, Span::ManyNodes),
                memory_bytes_per_token: unfitted
                    .map(|costs| costs.memory_bytes_per_token.clone())
                    .unwrap_or_default(),
                ring: unfitted.and_then(|costs| costs.ring.clone()),
                host: unfitted.and_then(|costs| costs.host),
            };
            (kind, kind_costs)
        });
        FittedCosts {
            micro_batch_overhead_s: coefficients[Self::OVERHEAD],
            num_heads: self.num_heads,
            kinds: kinds.collect(),
            ..costs.clone()
        }
    }

    /// The coefficient of each exchange, that of a token's computation beside it, and the exchange's degree.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = (usize, usize, Degree)> + '_ {
        let exchanges = self.exchanges.iter().enumerate();
        exchanges.filter_map(|(place, &(wanted, degree, _))| {
            let kind = self.kinds.iter().position(|&kind| kind == wanted)?;
            let (linear, _) = Self::linear_and_quadratic(kind);
            Some((self.first_exchange() + place, linear, degree))
        })
    }
}
