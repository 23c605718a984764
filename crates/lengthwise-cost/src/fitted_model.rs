//! The linear-quadratic cost model.

use lengthwise_core::{
    Bytes, Degree, Device, MemoryModel, Seconds, Strategy, StrategyKind, Tokens,
};

use crate::degree_table::DegreeTable;
use crate::ring_costs::{HeldTokens, RingModel};
use crate::{CostError, CostModel, FittedCosts, GroupShape, HostCosts, KindCosts, Span, TimeParts};

/// Costs that are linear and quadratic in a sequence's length.
///
/// For a sequence of `s` tokens in a group of degree `d` with `h` query heads, with the coefficients of its kind of
/// strategy:
///
/// ```text
/// time   = (quadratic s^2 imbalance(u) + linear s) / d + constant imbalance(u) r / u + exchange(d) s
/// memory = memory(d) s, rounded up to bytes
///
/// imbalance(u) = ceil(h / u) u / h        exchange(1) = 0
/// ```
///
/// with `u` the part of the degree that exchanges tokens for heads and `r` that of the ring, `d = u r`. The key/value blocks
/// of a ring add what attention doesn't hide ([`RingCosts`](crate::RingCosts)), and each of its steps is a call of attention
/// with a constant of its own. Where activations are moved to the host, that adds what everything else doesn't hide
/// ([`HostCosts`]), and memory there.
///
/// Between the degrees of a table, the exchange's bandwidth per device (the inverse of `d exchange(d)`) and
/// the memory of a rank's own tokens (`d memory(d)`) are linear in log2(d); beyond the table they stay what they
/// are at its nearest degree. So one memory entry, for degree 1, describes activations that scatter evenly.
///
/// ```
/// use lengthwise_core::{Activations, Degree, Strategy, StrategyKind, Tokens};
/// use lengthwise_cost::{CostModel, FittedCosts, FittedModel, GroupShape, KindCosts, Span};
///
/// let kind = StrategyKind::ulysses(Activations::Keep);
/// let model = FittedModel::new(FittedCosts::of_kind(kind, KindCosts {
///     quadratic_s_per_token2: 1e-9,
///     linear_s_per_token: 1e-6,
///     exchange_s_per_token: vec![(Degree::new(2)?, 1e-7)],
///     ..KindCosts::default()
/// }))?;
/// let strategy = Strategy::ulysses(Degree::new(2)?, Activations::Keep);
/// let shape = GroupShape { strategy, span: Span::OneNode };
/// let time = model.sequence_time(shape, Tokens(1000)).get();
/// assert!((time - (1e-3 + 1e-3) / 2.0 - 1e-4).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FittedModel {
    costs: FittedCosts,
    /// One for each kind of strategy that is priced, in their order.
    kinds: Vec<(StrategyKind, KindModel)>,
}

/// The costs of one kind of strategy at every degree.
#[derive(Clone, Debug, PartialEq)]
struct KindModel {
    quadratic_s_per_token2: f64,
    linear_s_per_token: f64,
    constant_s_per_sequence: f64,
    /// Tokens a second that each device of a group passes on.
    exchange_rate: DegreeTable,
    /// The same across nodes; `None` where the figures of one node hold.
    many_nodes_exchange_rate: Option<DegreeTable>,
    /// Bytes for each token that a device holds itself.
    memory_per_local_token: DegreeTable,
    ring: Option<RingModel>,
    host: Option<HostCosts>,
}

impl FittedModel {
    /// A model with these coefficients.
    ///
    /// # Errors
    ///
    /// The first coefficient that is negative, infinite or not a number, or a degree listed twice.
    pub fn new(costs: FittedCosts) -> Result<Self, CostError> {
        costs.check()?;
        let kinds = costs.kinds.iter();
        let kinds = kinds.map(|(&kind, costs)| (kind, KindModel::new(costs)));
        Ok(FittedModel {
            kinds: kinds.collect(),
            costs,
        })
    }

    /// The coefficients it was made of.
    pub fn costs(&self) -> &FittedCosts {
        &self.costs
    }

    /// Seconds that exchanging a token of a sequence takes in a group of this shape; infinite where it is not priced.
    pub fn exchange_s_per_token(&self, shape: GroupShape) -> f64 {
        let kind = self.kind(shape.strategy);
        kind.map_or(f64::INFINITY, |kind| {
            kind.exchange_s_per_token(shape.strategy.degree(), shape.span)
        })
    }

    /// By how much [`Self::exchange_s_per_token`] grows with each listed figure that it follows from.
    ///
    /// It is `1 / (d sum of weight_k / (k listed_k))` and doubles where all that is listed doubles. So it is also the sum
    /// of those figures, each times its slope (Euler's theorem on homogeneous functions).
    pub(crate) fn exchange_slopes(
        &self,
        shape: GroupShape,
    ) -> impl Iterator<Item = ((StrategyKind, Degree, Span), f64)> {
        let (kind, degree) = (shape.strategy.kind(), shape.strategy.degree());
        let model = self.kind(shape.strategy);
        // A term that takes no time needs no measure.
        let exchange = model.and_then(|model| {
            let (rates, span) = model.exchange_rates(shape.span);
            let rate = rates.at(degree)?;
            (degree > Degree::ONE && rate.is_finite()).then_some((rates, span, rate))
        });
        exchange.into_iter().flat_map(move |(rates, span, rate)| {
            rates.knots_of(degree).map(move |(listed, weight)| {
                let local = f64::from(listed.degree.get()) / f64::from(degree.get());
                let slope = weight * local * (listed.figure / rate).powi(2);
                ((kind, listed.degree, span), slope)
            })
        })
    }

    /// Bytes that a token of a sequence adds on every device of a group; infinite where the strategy is not priced.
    pub fn memory_bytes_per_token(&self, strategy: Strategy) -> f64 {
        let kind = self.kind(strategy);
        kind.map_or(f64::INFINITY, |kind| {
            kind.memory_bytes_per_token(strategy.degree())
        })
    }

    fn kind(&self, strategy: Strategy) -> Option<&KindModel> {
        let wanted = strategy.kind();
        let place = self.kinds.binary_search_by_key(&wanted, |(kind, _)| *kind);
        place.ok().map(|place| &self.kinds[place].1)
    }

    fn head_imbalance(&self, strategy: Strategy) -> f64 {
        let degree = strategy.ulysses_degree();
        let num_heads = self.costs.num_heads;
        num_heads.map_or(1.0, |heads| head_imbalance(heads, degree))
    }

    /// Seconds that attention to a sequence takes a rank of a group however short it is.
    fn constant_s(&self, strategy: Strategy, kind: &KindModel) -> f64 {
        let steps = f64::from(strategy.ring_degree().get());
        let ulysses = f64::from(strategy.ulysses_degree().get());
        kind.constant_s_per_sequence * self.head_imbalance(strategy) * steps / ulysses
    }

    /// The time of these sequences packed together, so that their key/value blocks travel together.
    ///
    /// It is at most the sum of [`CostModel::sequence_time`], which planners go by: the maximum of sums is at most the sum
    /// of maxima, and a long sequence can hide the blocks of short ones. The steps of the six recorded batches
    /// (`examples/batches`, llama-3.1-8b on h100-8x8) exceed it by at most 0.04 % in adaptive plans of rings, by at most
    /// 0.90 % where all rings have degree 8, and by less than 0.01 % at degree 64, which links bound throughout. A test
    /// holds these figures.
    pub fn packed_time(
        &self,
        shape: GroupShape,
        seq_lens: impl IntoIterator<Item = Tokens>,
    ) -> Seconds {
        let priced = self.priced(shape);
        priced.map_or(at_most_finite(f64::MAX), |priced| {
            priced.packed_time(seq_lens)
        })
    }

    /// What is the same for all sequences of a group of this shape; `None` where it is not priced.
    fn priced(&self, shape: GroupShape) -> Option<PricedShape<'_>> {
        let kind = self.kind(shape.strategy)?;
        let degree = shape.strategy.degree();
        Some(PricedShape {
            shape,
            kind,
            degree: f64::from(degree.get()),
            quadratic_s_per_token2: kind.quadratic_s_per_token2
                * self.head_imbalance(shape.strategy),
            exchange_s_per_token: kind.exchange_s_per_token(degree, shape.span),
            constant_s: self.constant_s(shape.strategy, kind),
        })
    }
}

/// The costs of groups of one shape.
struct PricedShape<'a> {
    shape: GroupShape,
    kind: &'a KindModel,
    degree: f64,
    quadratic_s_per_token2: f64,
    exchange_s_per_token: f64,
    constant_s: f64,
}

impl PricedShape<'_> {
    fn packed_time(&self, seq_lens: impl IntoIterator<Item = Tokens>) -> Seconds {
        let (mut attention, mut tokens, mut constants) = (0.0, 0.0, 0.0);
        for seq_len in seq_lens {
            let own = seq_len.as_f64() / self.degree;
            attention += self.quadratic_s_per_token2 * seq_len.as_f64() * own;
            tokens += own;
            constants += self.constant_s;
        }
        let seconds = self.kind.linear_s_per_token * tokens
            + self.kind.attention_s(self.shape, attention, tokens)
            + constants
            + self.exchange_s_per_token * tokens * self.degree;
        at_most_finite(self.kind.with_host_s(seconds, tokens))
    }

    fn sequence_time(&self, seq_len: Tokens) -> Seconds {
        if self.kind.ring.is_some() {
            return self.packed_time([seq_len]);
        }
        let tokens = seq_len.as_f64();
        let compute =
            (self.quadratic_s_per_token2 * tokens + self.kind.linear_s_per_token) / self.degree;
        let seconds = tokens * (compute + self.exchange_s_per_token) + self.constant_s;
        at_most_finite(self.kind.with_host_s(seconds, tokens / self.degree))
    }
}

impl KindModel {
    fn new(costs: &KindCosts) -> Self {
        let one_node = &costs.exchange_s_per_token;
        let many_nodes = &costs.many_nodes_exchange_s_per_token;
        let inverse =
            |&(degree, seconds): &(Degree, f64)| (degree, 1.0 / per_device(degree, seconds));
        let exchange_rate = DegreeTable::new(one_node.iter().map(inverse));
        let many_nodes_exchange_rate =
            (!many_nodes.is_empty()).then(|| DegreeTable::new(many_nodes.iter().map(inverse)));
        let memory = costs.memory_bytes_per_token.iter();
        let memory = memory.map(|&(degree, bytes)| (degree, per_device(degree, bytes)));
        KindModel {
            quadratic_s_per_token2: costs.quadratic_s_per_token2,
            linear_s_per_token: costs.linear_s_per_token,
            constant_s_per_sequence: costs.constant_s_per_sequence,
            exchange_rate,
            many_nodes_exchange_rate,
            memory_per_local_token: DegreeTable::new(memory),
            ring: costs.ring.as_ref().map(RingModel::new),
            host: costs.host,
        }
    }

    /// Seconds of attention and of the blocks that it doesn't hide, where attention alone takes `attention_s` and every
    /// rank holds `tokens`.
    fn attention_s(&self, shape: GroupShape, attention_s: f64, tokens: f64) -> f64 {
        let held = HeldTokens::new(shape.strategy, shape.span, tokens);
        let ring = self.ring.as_ref();
        ring.map_or(attention_s, |ring| ring.attention_s(attention_s, held))
    }

    /// Seconds with what copying to the host and back adds, where all else takes `seconds` and every rank holds `tokens`.
    fn with_host_s(&self, seconds: f64, tokens: f64) -> f64 {
        let host = self.host.as_ref();
        host.map_or(seconds, |host| host.seconds(seconds, tokens))
    }

    /// The rates that hold for groups of this span, and the span that they were listed for.
    fn exchange_rates(&self, span: Span) -> (&DegreeTable, Span) {
        match &self.many_nodes_exchange_rate {
            Some(rates) if span == Span::ManyNodes => (rates, span),
            _ => (&self.exchange_rate, Span::OneNode),
        }
    }

    fn exchange_s_per_token(&self, degree: Degree, span: Span) -> f64 {
        let (rates, _) = self.exchange_rates(span);
        match rates.at(degree) {
            Some(rate) if degree > Degree::ONE => 1.0 / (rate * f64::from(degree.get())),
            _ => 0.0,
        }
    }

    fn memory_bytes_per_token(&self, degree: Degree) -> f64 {
        let local = self.memory_per_local_token.at(degree).unwrap_or(0.0);
        local / f64::from(degree.get())
    }
}

/// How much longer attention takes where `degree` does not divide the heads evenly: `ceil(h / d) d / h`, at least 1.
pub fn head_imbalance(num_heads: u32, degree: Degree) -> f64 {
    let most = num_heads.div_ceil(degree.get());
    f64::from(most) * f64::from(degree.get()) / f64::from(num_heads)
}

impl MemoryModel for FittedModel {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        let bytes = self.memory_bytes_per_token(strategy) * seq_len.as_f64();
        Bytes::from_f64_ceil(bytes).unwrap_or(Bytes(u64::MAX))
    }

    fn budget(&self, device: &Device) -> Bytes {
        let fixed = Bytes::from_f64_ceil(self.costs.fixed_memory_bytes);
        device
            .memory()
            .saturating_sub(fixed.unwrap_or(Bytes(u64::MAX)))
    }

    fn host_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        let host = self.kind(strategy).and_then(|kind| kind.host.as_ref());
        let Some(host) = host else {
            return Bytes(0);
        };
        // Of the fullest device: tokens are whole.
        let tokens = seq_len.0.div_ceil(strategy.degree().get().into());
        let bytes = host.bytes_per_token * Tokens(tokens).as_f64();
        Bytes::from_f64_ceil(bytes).unwrap_or(Bytes(u64::MAX))
    }

    fn host_budget(&self, device: &Device) -> Bytes {
        device.host_memory()
    }
}

impl CostModel for FittedModel {
    fn prices(&self, strategy: Strategy) -> bool {
        self.kind(strategy).is_some()
    }

    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds {
        let priced = self.priced(shape);
        priced.map_or(at_most_finite(f64::MAX), |priced| {
            priced.sequence_time(seq_len)
        })
    }

    fn sequence_times(&self, shape: GroupShape, seq_lens: &[Tokens]) -> Vec<Seconds> {
        let Some(priced) = self.priced(shape) else {
            return vec![at_most_finite(f64::MAX); seq_lens.len()];
        };
        let seq_lens = seq_lens.iter();
        seq_lens
            .map(|&seq_len| priced.sequence_time(seq_len))
            .collect()
    }

    fn time_parts(&self, shape: GroupShape, seq_len: Tokens) -> TimeParts {
        let Some(priced) = self.priced(shape) else {
            return TimeParts {
                dense: at_most_finite(f64::MAX),
                ..TimeParts::default()
            };
        };
        let kind = priced.kind;
        let tokens = seq_len.as_f64();
        let per_device = tokens / priced.degree;
        let attention = priced.quadratic_s_per_token2 * tokens * per_device;
        // The steps of a ring add up to attention but for rounding.
        let hops = (kind.attention_s(shape, attention, per_device) - attention).max(0.0);
        let exchange = priced.exchange_s_per_token * tokens + hops;
        let dense = kind.linear_s_per_token * per_device;
        let computed = attention + priced.constant_s;
        let all = dense + computed + exchange;
        let copies = (kind.with_host_s(all, per_device) - all).max(0.0);
        TimeParts {
            dense: at_most_finite(dense),
            attention: at_most_finite(computed),
            exchange: at_most_finite(exchange + copies),
            hops: at_most_finite(hops),
            copies: at_most_finite(copies),
        }
    }

    fn micro_batch_overhead(&self) -> Seconds {
        Seconds::new(self.costs.micro_batch_overhead_s).unwrap_or(Seconds::ZERO)
    }
}

/// Coefficients are finite, so only absurd lengths overflow; they must lose, not panic.
fn at_most_finite(seconds: f64) -> Seconds {
    Seconds::new(seconds.min(f64::MAX)).unwrap_or(Seconds::ZERO)
}

/// A figure per token of a sequence, as one per token that each device of the group holds.
fn per_device(degree: Degree, per_token: f64) -> f64 {
    per_token * f64::from(degree.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lengthwise_core::{Activations, Exchange, Speed};

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    const ACTIVATIONS: Activations = Activations::Recompute;

    fn shape(degree_: u32, span: Span) -> GroupShape {
        GroupShape {
            strategy: Strategy::ulysses(degree(degree_), ACTIVATIONS),
            span,
        }
    }

    fn costs() -> FittedCosts {
        FittedCosts {
            num_heads: Some(4),
            fixed_memory_bytes: 1000.0,
            micro_batch_overhead_s: 0.25,
            ..FittedCosts::of_kind(StrategyKind::ulysses(ACTIVATIONS), kind_costs())
        }
    }

    fn kind_costs() -> KindCosts {
        KindCosts {
            quadratic_s_per_token2: 2e-9,
            linear_s_per_token: 3e-6,
            constant_s_per_sequence: 0.0,
            exchange_s_per_token: vec![(degree(2), 1e-6), (degree(4), 1e-6)],
            many_nodes_exchange_s_per_token: vec![(degree(4), 5e-6)],
            memory_bytes_per_token: vec![(degree(1), 1000.5)],
            ring: None,
            host: None,
        }
    }

    #[test]
    fn times_follow_the_formula() {
        let model = FittedModel::new(costs()).unwrap();
        let time = |shape| model.sequence_time(shape, Tokens(1000)).get();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12 * b, "{a} is not {b}");
        close(time(shape(1, Span::OneNode)), 2e-3 + 3e-3);
        close(time(shape(4, Span::OneNode)), (2e-3 + 3e-3) / 4.0 + 1e-3);
        close(time(shape(4, Span::ManyNodes)), (2e-3 + 3e-3) / 4.0 + 5e-3);
        // Three ranks share four heads: one attends with two of them, as in a group of two.
        let rate = 0.5e6 + (0.25e6 - 0.5e6) * 1.5f64.log2();
        close(
            time(shape(3, Span::OneNode)),
            1e-3 + 1e-3 + 1e3 / (3.0 * rate),
        );
    }

    #[test]
    fn each_call_of_attention_costs_a_constant() {
        let [plain, constant] = [0.0, 4e-3].map(|constant_s_per_sequence| {
            let costs = KindCosts {
                constant_s_per_sequence,
                ..kind_costs()
            };
            let ring = Exchange::UlyssesRing { ring: degree(3) };
            let kind = StrategyKind::ulysses(ACTIVATIONS);
            let mut all = costs.clone();
            all.ring = Some(crate::RingCosts::default());
            let mut model = FittedCosts::of_kind(kind, costs);
            model.num_heads = Some(4);
            let exchange = ring;
            model.kinds.insert(StrategyKind { exchange, ..kind }, all);
            FittedModel::new(model).unwrap()
        });
        // Four heads, of which three ranks have two, one and one; a ring calls attention in each of its steps.
        for (ulysses, ring, expected) in [
            (1, 1, 4e-3),
            (2, 1, 2e-3),
            (3, 1, 2e-3),
            (4, 1, 1e-3),
            (2, 3, 6e-3),
        ] {
            let strategy = Strategy::new(degree(ulysses), degree(ring), ACTIVATIONS).unwrap();
            let span = Span::OneNode;
            let shape = GroupShape { strategy, span };
            let added = |seq_len| {
                let time = |model: &FittedModel| model.sequence_time(shape, Tokens(seq_len)).get();
                let parts = constant.time_parts(shape, Tokens(seq_len));
                let sum = (parts.dense + parts.attention + parts.exchange).get();
                assert!((sum - time(&constant)).abs() < 1e-15);
                time(&constant) - time(&plain)
            };
            for seq_len in [1, 1000] {
                assert!((added(seq_len) - expected).abs() < 1e-12, "{strategy}");
            }
            let packed = [Tokens(10), Tokens(20)];
            let packed = constant.packed_time(shape, packed) - plain.packed_time(shape, packed);
            assert!((packed.get() - 2.0 * expected).abs() < 1e-12, "{strategy}");
        }
    }

    #[test]
    fn exchanges_follow_listed_ones_by_their_slopes() {
        let kind = StrategyKind::ulysses(ACTIVATIONS);
        let model = |of_2, of_8| {
            let costs = KindCosts {
                exchange_s_per_token: vec![(degree(2), of_2), (degree(8), of_8)],
                many_nodes_exchange_s_per_token: Vec::new(),
                ..kind_costs()
            };
            FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap()
        };
        let first = model(2e-6, 3e-6);
        for degree_ in [1, 2, 3, 5, 8, 12] {
            let slope = |listed| {
                let slopes = first.exchange_slopes(shape(degree_, Span::ManyNodes));
                let key = (kind, degree(listed), Span::OneNode);
                let of_listed = slopes.filter(|&(listed, _)| listed == key);
                of_listed.map(|(_, slope)| slope).sum::<f64>()
            };
            for (of_2, of_8, within) in [
                (2e-6, 3e-6, 1e-12),
                (2.002e-6, 3e-6, 1e-6),
                (2e-6, 3.003e-6, 1e-6),
            ] {
                let sum = slope(2) * of_2 + slope(8) * of_8;
                let longer = model(of_2, of_8);
                let exchange = longer.exchange_s_per_token(shape(degree_, Span::ManyNodes));
                let apart = (sum - exchange).abs();
                assert!(apart <= within * exchange, "{sum} is not {exchange}");
            }
        }
        let listed = FittedModel::new(costs()).unwrap();
        let slopes = listed.exchange_slopes(shape(4, Span::ManyNodes));
        let expected = [((kind, degree(4), Span::ManyNodes), 1.0)];
        assert_eq!(slopes.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_parts_of_a_time_add_up_to_it() {
        let model = FittedModel::new(costs()).unwrap();
        for (degree, span) in [(1, Span::OneNode), (3, Span::OneNode), (4, Span::ManyNodes)] {
            let shape = shape(degree, span);
            let parts = model.time_parts(shape, Tokens(1000));
            let whole = model.sequence_time(shape, Tokens(1000)).get();
            let sum = (parts.dense + parts.attention + parts.exchange).get();
            assert!((sum - whole).abs() < 1e-15, "{sum} is not {whole}");
            assert_eq!(parts.exchange == Seconds::ZERO, degree == 1);
        }
    }

    #[test]
    fn memory_scatters_and_rounds_up() {
        let model = FittedModel::new(costs()).unwrap();
        let memory =
            |degree_| model.sequence_memory(shape(degree_, Span::OneNode).strategy, Tokens(10));
        assert_eq!(memory(1), Bytes(10_005));
        assert_eq!(memory(3), Bytes(3_335));
        assert_eq!(memory(4), Bytes(2_502));
        let device = |memory| Device::new(Bytes(memory), Speed::NOMINAL);
        assert_eq!(model.budget(&device(5000)), Bytes(4000));
        assert_eq!(model.budget(&device(500)), Bytes(0));
    }

    #[test]
    fn moving_to_the_host_takes_what_computing_does_not_hide_and_memory_there() {
        let of_host = KindCosts {
            host: Some(HostCosts {
                forward_share: 0.25,
                copy_s_per_token: 1e-6,
                bytes_per_token: 3.0,
            }),
            ..kind_costs()
        };
        let mut costs = costs();
        let kind = StrategyKind::ulysses(Activations::Host);
        costs.kinds.insert(kind, of_host);
        let model = FittedModel::new(costs).unwrap();
        let shape = |degree_, activations| GroupShape {
            strategy: Strategy::ulysses(degree(degree_), activations),
            span: Span::OneNode,
        };
        let (recompute, host) = (shape(2, ACTIVATIONS), shape(2, Activations::Host));
        for tokens in [1, 1000, 1 << 20] {
            let time = |shape| model.sequence_time(shape, Tokens(tokens)).get();
            let copy = 0.5e-6 * tokens as f64;
            let hidden = (copy - 0.25 * time(recompute)).max(0.0);
            let not_hidden = hidden + (copy - 0.75 * time(recompute)).max(0.0);
            let expected = time(recompute) + not_hidden;
            assert!(
                (time(host) - expected).abs() <= 1e-12 * expected,
                "{tokens}"
            );
            let parts = model.time_parts(host, Tokens(tokens));
            let sum = (parts.dense + parts.attention + parts.exchange).get();
            assert!((sum - time(host)).abs() <= 1e-12 * sum);
            assert!((parts.copies.get() - not_hidden).abs() <= 1e-12 * sum);
        }
        let on_host = |shape: GroupShape| model.host_memory(shape.strategy, Tokens(1001));
        assert_eq!((on_host(recompute), on_host(host)), (Bytes(0), Bytes(1503)));
        let device = Device::new(Bytes(1), Speed::NOMINAL).with_host_memory(Bytes(77));
        assert_eq!(model.host_budget(&device), Bytes(77));
    }

    #[test]
    fn each_kind_of_strategy_has_costs_of_its_own() {
        let kept = KindCosts {
            linear_s_per_token: 2e-6,
            memory_bytes_per_token: vec![(degree(1), 5000.0)],
            ..kind_costs()
        };
        let mut costs = costs();
        let keep = StrategyKind::ulysses(Activations::Keep);
        costs.kinds.insert(keep, kept);
        let model = FittedModel::new(costs).unwrap();
        let strategy = |activations| Strategy::ulysses(degree(2), activations);
        let time = |activations| {
            let shape = GroupShape {
                strategy: strategy(activations),
                span: Span::OneNode,
            };
            model.sequence_time(shape, Tokens(1000)).get()
        };
        let difference = time(Activations::Recompute) - time(Activations::Keep);
        assert!((difference - 0.5e-3).abs() < 1e-12);
        let memory = |activations| model.sequence_memory(strategy(activations), Tokens(1000)).0;
        assert_eq!(memory(Activations::Keep), 2_500_000);
        assert_eq!(memory(Activations::Recompute), 500_250);
    }

    #[test]
    fn strategies_of_other_kinds_are_not_priced_and_lose_if_asked_for() {
        let model = FittedModel::new(costs()).unwrap();
        let ring = Strategy::new(degree(2), degree(2), ACTIVATIONS).unwrap();
        let host = Strategy::ulysses(degree(2), Activations::Host);
        assert!(model.prices(shape(2, Span::OneNode).strategy));
        for strategy in [ring, host] {
            assert!(!model.prices(strategy));
            let shape = GroupShape {
                strategy,
                span: Span::OneNode,
            };
            assert_eq!(model.sequence_time(shape, Tokens(1)).get(), f64::MAX);
            assert_eq!(model.sequence_memory(strategy, Tokens(1)), Bytes(u64::MAX));
        }
    }
}
