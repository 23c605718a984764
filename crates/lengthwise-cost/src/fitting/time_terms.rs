//! The time of a micro-batch, linear in the coefficients of its costs.

use lengthwise_core::{Activations, Degree, Exchange, Strategy, StrategyKind, Tokens};

use crate::ring_costs::{HeldTokens, RingModel};
use crate::{FittedCosts, GroupShape, HostCosts, KindCosts, Span, head_imbalance};

/// Coefficients that differ by no more than this part of them are taken for shared.
const SAME: f64 = 1e-9;

/// The load of a group in a micro-batch, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    strategy: Strategy,
    span: Span,
    sequences: f64,
    tokens: f64,
    squares: f64,
}

impl Load {
    /// Sequences of these lengths in a group of this shape.
    pub fn new(shape: GroupShape, seq_lens: impl IntoIterator<Item = Tokens>) -> Self {
        let mut load = Load {
            strategy: shape.strategy,
            span: shape.span,
            sequences: 0.0,
            tokens: 0.0,
            squares: 0.0,
        };
        for seq_len in seq_lens {
            load.sequences += 1.0;
            load.tokens += seq_len.as_f64();
            load.squares += seq_len.as_f64().powi(2);
        }
        load
    }
}

/// The work of a micro-batch of equal groups: the load of one of them, and the pace of its ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Of one group.
    pub load: Load,
    /// The time of computing, as a part of its time while all ranks compute.
    pub pace: f64,
}

/// A time near some coefficients: what each coefficient is multiplied by, and what is known of it without them.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearTime {
    /// The factor of each coefficient.
    pub terms: Vec<f64>,
    /// The constants of attention's calls, and what hops and copies add that nothing hides, in seconds.
    pub known_s: f64,
}

impl LinearTime {
    /// The same so many times.
    #[must_use]
    pub(crate) fn times(mut self, factor: f64) -> Self {
        self.terms.iter_mut().for_each(|term| *term *= factor);
        self.known_s *= factor;
        self
    }

    /// The seconds that it comes to.
    pub fn seconds(&self, coefficients: &[f64]) -> f64 {
        let products = self.terms.iter().zip(coefficients);
        products.map(|(term, of)| term * of).sum::<f64>() + self.known_s
    }
}

/// The terms that times are made of, each with a coefficient: overhead; linear and quadratic ones of kinds of strategy, some
/// of which share them; and the exchanges.
///
/// What attention takes however short a sequence is, and what hops of rings and copies to the host take beyond what hides
/// them, is known, not fitted ([`TimeTerms::beside`]).
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTerms {
    num_heads: Option<u32>,
    /// In the order of kinds.
    kinds: Vec<KindTerms>,
    /// The first kind of those that share each coefficient of tokens and of their squares, after the overhead.
    num_computing: usize,
    /// One coefficient each, in this order, after those.
    exchanges: Vec<ExchangeTerm>,
}

/// Where the coefficients of a kind are, and what is known beside them.
#[derive(Clone, Debug, PartialEq)]
struct KindTerms {
    kind: StrategyKind,
    linear: usize,
    quadratic: usize,
    constant_s_per_sequence: f64,
    ring: Option<RingModel>,
    host: Option<HostCosts>,
}

/// The time of a token's exchange for the first of some choices for activations; the others take as much a pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ExchangeTerm {
    exchange: Exchange,
    degree: Degree,
    span: Span,
    activations: Vec<Activations>,
}

impl ExchangeTerm {
    /// How many times the coefficient groups that treat activations so take.
    fn times(&self, activations: Activations) -> f64 {
        let first = self.activations.first().copied().unwrap_or(activations);
        num_passes(activations) / num_passes(first)
    }

    fn kind(&self, activations: Activations) -> StrategyKind {
        StrategyKind {
            exchange: self.exchange,
            activations,
        }
    }
}

/// How often a layer's exchanges are made: forward and backward, and in the forward that is run again.
fn num_passes(activations: Activations) -> f64 {
    if activations.recomputes() { 3.0 } else { 2.0 }
}

impl TimeTerms {
    pub(crate) const OVERHEAD: usize = 0;

    /// The terms of groups of these shapes, of every kind its own; those of degree 1 exchange nothing.
    ///
    /// `num_heads` is `None` where attention always divides evenly.
    pub fn new(num_heads: Option<u32>, shapes: impl IntoIterator<Item = GroupShape>) -> Self {
        Self::of_shapes(num_heads, shapes, |_, _| false, |_, _| false)
    }

    /// The same where kinds share what is the same work: attention where layers are run again, all else where activations
    /// are treated alike, and exchanges a pass.
    pub fn shared(num_heads: Option<u32>, shapes: impl IntoIterator<Item = GroupShape>) -> Self {
        Self::of_shapes(
            num_heads,
            shapes,
            |a, b| a.activations == b.activations,
            |a, b| a.activations.recomputes() == b.activations.recomputes(),
        )
        .sharing_exchanges(|_, _, _| true)
    }

    /// The terms of these costs; those kinds share coefficients whose figures agree.
    pub fn of(costs: &FittedCosts) -> Self {
        let shapes = costs.kinds.iter().flat_map(|(&kind, costs)| {
            let one_node = costs.exchange_s_per_token.iter();
            let many_nodes = costs.many_nodes_exchange_s_per_token.iter();
            let listed = one_node
                .map(|&(degree, _)| (degree, Span::OneNode))
                .chain(many_nodes.map(|&(degree, _)| (degree, Span::ManyNodes)));
            listed.map(move |(degree, span)| (kind, degree, span))
        });
        let figures = |kind: StrategyKind| costs.kinds.get(&kind);
        let agree = |a, b, of: fn(&KindCosts) -> f64| {
            figures(a).map(of).map(f64::to_bits) == figures(b).map(of).map(f64::to_bits)
        };
        let kinds = costs.kinds.keys().copied().collect();
        let terms = Self::of_parts(
            costs.num_heads,
            kinds,
            shapes.collect(),
            |a, b| a.activations == b.activations && agree(a, b, |of| of.linear_s_per_token),
            |a, b| {
                a.activations.recomputes() == b.activations.recomputes()
                    && agree(a, b, |of| of.quadratic_s_per_token2)
            },
        );
        let figure = |term: &ExchangeTerm, activations| {
            listed(figures(term.kind(activations)), term.degree, term.span)
        };
        terms
            .sharing_exchanges(|term, first, other| {
                let [first, other] = [first, other].map(|of| figure(term, of) / num_passes(of));
                (first - other).abs() <= SAME * first.abs()
            })
            .beside(costs)
    }

    fn of_shapes(
        num_heads: Option<u32>,
        shapes: impl IntoIterator<Item = GroupShape>,
        share_linear: impl Fn(StrategyKind, StrategyKind) -> bool,
        share_quadratic: impl Fn(StrategyKind, StrategyKind) -> bool,
    ) -> Self {
        let (mut kinds, mut exchanges) = (Vec::new(), Vec::new());
        for GroupShape { strategy, span } in shapes {
            kinds.push(strategy.kind());
            exchanges.push((strategy.kind(), strategy.degree(), span));
        }
        Self::of_parts(num_heads, kinds, exchanges, share_linear, share_quadratic)
    }

    fn of_parts(
        num_heads: Option<u32>,
        mut kinds: Vec<StrategyKind>,
        mut exchanges: Vec<(StrategyKind, Degree, Span)>,
        share_linear: impl Fn(StrategyKind, StrategyKind) -> bool,
        share_quadratic: impl Fn(StrategyKind, StrategyKind) -> bool,
    ) -> Self {
        kinds.sort();
        kinds.dedup();
        let mut num_computing = 0;
        let mut all: Vec<KindTerms> = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let mut place = |shared: Option<usize>| {
                shared.unwrap_or_else(|| {
                    num_computing += 1;
                    num_computing
                })
            };
            let linear = all.iter().find(|of| share_linear(of.kind, kind));
            let quadratic = all.iter().find(|of| share_quadratic(of.kind, kind));
            all.push(KindTerms {
                kind,
                linear: place(linear.map(|of| of.linear)),
                quadratic: place(quadratic.map(|of| of.quadratic)),
                constant_s_per_sequence: 0.0,
                ring: None,
                host: None,
            });
        }
        exchanges.retain(|&(_, degree, _)| degree > Degree::ONE);
        exchanges.sort();
        exchanges.dedup();
        let term = |(kind, degree, span): (StrategyKind, Degree, Span)| ExchangeTerm {
            exchange: kind.exchange,
            degree,
            span,
            activations: vec![kind.activations],
        };
        TimeTerms {
            num_heads,
            kinds: all,
            num_computing,
            exchanges: exchanges.into_iter().map(term).collect(),
        }
    }

    /// Joins the terms of one exchange whose figures agree, by its first choice for activations and another.
    fn sharing_exchanges(
        mut self,
        agree: impl Fn(&ExchangeTerm, Activations, Activations) -> bool,
    ) -> Self {
        let mut joined: Vec<ExchangeTerm> = Vec::with_capacity(self.exchanges.len());
        for term in self.exchanges {
            let same = joined.iter_mut().find(|of| {
                (of.exchange, of.degree, of.span) == (term.exchange, term.degree, term.span)
                    && agree(of, of.activations[0], term.activations[0])
            });
            match same {
                Some(of) => of.activations.extend(term.activations),
                None => joined.push(term),
            }
        }
        self.exchanges = joined;
        self
    }

    /// The same beside the constants, hops and copies of these costs.
    #[must_use]
    pub fn beside(mut self, costs: &FittedCosts) -> Self {
        for of_kind in &mut self.kinds {
            if let Some(costs) = costs.kinds.get(&of_kind.kind) {
                of_kind.constant_s_per_sequence = costs.constant_s_per_sequence;
                of_kind.ring = costs.ring.as_ref().map(RingModel::new);
                of_kind.host = costs.host;
            }
        }
        self
    }

    /// How many coefficients there are.
    pub fn len(&self) -> usize {
        self.first_exchange() + self.exchanges.len()
    }

    /// Never: there is always an overhead.
    pub fn is_empty(&self) -> bool {
        false
    }

    fn first_exchange(&self) -> usize {
        1 + self.num_computing
    }

    fn of_kind(&self, kind: StrategyKind) -> Option<&KindTerms> {
        let place = self.kinds.binary_search_by_key(&kind, |of| of.kind).ok()?;
        Some(&self.kinds[place])
    }

    /// The time of a micro-batch of groups with this work, near these coefficients.
    pub fn micro_batch(&self, work: &Work, coefficients: &[f64]) -> LinearTime {
        let Load { strategy, span, .. } = work.load;
        let listed = ((strategy.kind(), strategy.degree(), span), 1.0);
        let mut time = self
            .group(&work.load, [listed], coefficients)
            .times(work.pace);
        time.terms[Self::OVERHEAD] = 1.0;
        time
    }

    /// The same for a group alone, without the micro-batch's overhead, where what a token's exchange takes is a sum of
    /// listed exchanges, each so many times.
    pub(crate) fn group(
        &self,
        load: &Load,
        exchange: impl IntoIterator<Item = ((StrategyKind, Degree, Span), f64)>,
        coefficients: &[f64],
    ) -> LinearTime {
        let strategy = load.strategy;
        let ranks = f64::from(strategy.degree().get());
        let imbalance = self.num_heads.map_or(1.0, |heads| {
            head_imbalance(heads, strategy.ulysses_degree())
        });
        let mut time = LinearTime {
            terms: vec![0.0; self.len()],
            known_s: 0.0,
        };
        for ((kind, degree, span), times) in exchange {
            let mut terms = self.exchanges.iter();
            let place = terms.position(|term| {
                (term.exchange, term.degree, term.span) == (kind.exchange, degree, span)
                    && term.activations.contains(&kind.activations)
            });
            if let Some(place) = place {
                let of_first = self.exchanges[place].times(kind.activations);
                time.terms[self.first_exchange() + place] += times * of_first * load.tokens;
            }
        }
        let Some(of_kind) = self.of_kind(strategy.kind()) else {
            return time;
        };
        let tokens = load.tokens / ranks;
        time.terms[of_kind.linear] = tokens;
        time.terms[of_kind.quadratic] = load.squares * imbalance / ranks;
        let steps = f64::from(strategy.ring_degree().get());
        let ulysses = f64::from(strategy.ulysses_degree().get());
        let calls = load.sequences * imbalance * steps / ulysses;
        time.known_s += of_kind.constant_s_per_sequence * calls;
        // Nothing is hidden by computing of which nothing is known yet.
        if coefficients.iter().all(|&of| of == 0.0) {
            return time;
        }
        if let Some(ring) = &of_kind.ring {
            let held = HeldTokens::new(strategy, load.span, tokens);
            let attention = time.terms[of_kind.quadratic] * coefficients[of_kind.quadratic];
            let (share, hops) = ring.linear_s(attention, held);
            time.terms[of_kind.quadratic] *= share;
            time.known_s += hops;
        }
        if let Some(host) = &of_kind.host {
            let (share, copies) = host.linear_s(time.seconds(coefficients), tokens);
            time = time.times(share);
            time.known_s += copies;
        }
        time
    }

    /// The coefficients that costs have for these terms.
    pub(crate) fn coefficients(&self, costs: &FittedCosts) -> Vec<f64> {
        let of_kind = |kind: StrategyKind| costs.kinds.get(&kind);
        let mut coefficients = vec![0.0; self.len()];
        coefficients[Self::OVERHEAD] = costs.micro_batch_overhead_s;
        for terms in &self.kinds {
            if let Some(costs) = of_kind(terms.kind) {
                coefficients[terms.linear] = costs.linear_s_per_token;
                coefficients[terms.quadratic] = costs.quadratic_s_per_token2;
            }
        }
        let first = self.first_exchange();
        for (term, coefficient) in self.exchanges.iter().zip(&mut coefficients[first..]) {
            let kind = term.kind(term.activations[0]);
            *coefficient = listed(of_kind(kind), term.degree, term.span);
        }
        coefficients
    }

    /// These coefficients as costs, all else as in `costs`.
    pub(crate) fn costs(&self, coefficients: &[f64], costs: &FittedCosts) -> FittedCosts {
        let exchange = |wanted: StrategyKind, on: Span| {
            let entries = self
                .exchanges
                .iter()
                .zip(&coefficients[self.first_exchange()..])
                .filter(|(term, _)| {
                    term.exchange == wanted.exchange
                        && term.span == on
                        && term.activations.contains(&wanted.activations)
                });
            entries
                .map(|(term, &seconds)| (term.degree, seconds * term.times(wanted.activations)))
                .collect()
        };
        let kinds = self.kinds.iter().map(|terms| {
            let kind = terms.kind;
            let unfitted = costs.kinds.get(&kind).cloned();
            let kind_costs = KindCosts {
                quadratic_s_per_token2: coefficients[terms.quadratic],
                linear_s_per_token: coefficients[terms.linear],
                exchange_s_per_token: exchange(kind, Span::OneNode),
                many_nodes_exchange_s_per_token: exchange(kind, Span::ManyNodes),
                ..unfitted.unwrap_or_default()
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
        exchanges.filter_map(|(place, term)| {
            let of_kind = self.of_kind(term.kind(term.activations[0]))?;
            Some((self.first_exchange() + place, of_kind.linear, term.degree))
        })
    }
}

/// The listed cost of an exchange; 0 where none is listed.
fn listed(costs: Option<&KindCosts>, degree: Degree, span: Span) -> f64 {
    let table = costs.map_or(&[][..], |costs| match span {
        Span::OneNode => &costs.exchange_s_per_token,
        Span::ManyNodes => &costs.many_nodes_exchange_s_per_token,
    });
    let entry = table.iter().find(|&&(of, _)| of == degree);
    entry.map_or(0.0, |&(_, seconds)| seconds)
}
