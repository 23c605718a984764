//! The coefficients that a calibration or a published profile fills with numbers.

use std::collections::BTreeMap;

use lengthwise_core::limits::{SEQUENCE_BYTES, SEQUENCE_S};
use lengthwise_core::{Degree, StrategyKind, Tokens};

use crate::{CostError, HostCosts, RingCosts};

/// The coefficients of a [`FittedModel`](crate::FittedModel), as plain numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FittedCosts {
    /// Query heads, where a rank that attends with `ceil(heads / degree)` of them holds its group back;
    /// `None` where attention always divides evenly.
    pub num_heads: Option<u32>,
    /// Bytes that every device holds whatever it works on: parameters, gradients, optimiser state, buffers.
    pub fixed_memory_bytes: f64,
    /// Seconds a micro-batch takes whatever its groups hold.
    pub micro_batch_overhead_s: f64,
    /// The costs of sequences, by the kind of strategy; strategies of other kinds are not priced.
    pub kinds: BTreeMap<StrategyKind, KindCosts>,
}

/// The costs of sequences under strategies of one kind, by degree and span.
///
/// Tables list some degrees; [`FittedModel`](crate::FittedModel) says what holds for the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KindCosts {
    /// Attention: seconds for each square of a sequence's tokens, on one device.
    pub quadratic_s_per_token2: f64,
    /// All else: seconds for each token, on one device.
    pub linear_s_per_token: f64,
    /// Attention of a sequence however short it is: seconds for each, on one device. Kernels work in tiles, which short
    /// sequences don't fill.
    pub constant_s_per_sequence: f64,
    /// Seconds that the exchanges of a group on one node take for each token of a sequence, by degree.
    pub exchange_s_per_token: Vec<(Degree, f64)>,
    /// The same for groups on several nodes; where empty, the figures of one node hold.
    pub many_nodes_exchange_s_per_token: Vec<(Degree, f64)>,
    /// Bytes that each token of a sequence adds on every device of its group, by degree.
    pub memory_bytes_per_token: Vec<(Degree, f64)>,
    /// The time of passing key/value blocks around, where groups are rings or have some inside.
    pub ring: Option<RingCosts>,
    /// The time and memory of moving the inputs of layers to the host, where activations are moved there.
    pub host: Option<HostCosts>,
}

impl FittedCosts {
    /// Sequences cost this, under strategies of this kind alone; nothing else costs anything.
    pub fn of_kind(kind: StrategyKind, costs: KindCosts) -> Self {
        FittedCosts {
            kinds: BTreeMap::from([(kind, costs)]),
            ..FittedCosts::default()
        }
    }

    /// Checks that every coefficient is finite and not negative, and no degree listed twice.
    pub(crate) fn check(&self) -> Result<(), CostError> {
        check_coefficient("fixed_memory_bytes", self.fixed_memory_bytes)?;
        check_coefficient("micro_batch_overhead_s", self.micro_batch_overhead_s)?;
        if self.num_heads == Some(0) {
            return Err(CostError::NoHeads);
        }
        self.kinds.values().try_for_each(KindCosts::check)
    }
}

impl FittedCosts {
    /// Checks that no coefficient alone makes a sequence of `longest` tokens cost more than sums of such costs can hold.
    ///
    /// # Errors
    ///
    /// The first coefficient that does.
    pub fn check_reach(&self, longest: Tokens) -> Result<(), CostError> {
        let within = |name, value: f64, times: f64, (unit, most)| {
            let amount = value * times;
            if amount <= most {
                return Ok(());
            }
            Err(CostError::BeyondReach {
                name,
                value,
                seq_len: longest,
                amount,
                unit,
                most,
            })
        };
        let (seconds, bytes) = (("s", SEQUENCE_S), ("bytes", SEQUENCE_BYTES));
        let tokens = longest.as_f64();
        within("fixed_memory_bytes", self.fixed_memory_bytes, 1.0, bytes)?;
        within(
            "micro_batch_overhead_s",
            self.micro_batch_overhead_s,
            1.0,
            seconds,
        )?;
        for costs in self.kinds.values() {
            let quadratic = costs.quadratic_s_per_token2;
            within(
                "quadratic_s_per_token2",
                quadratic,
                tokens * tokens,
                seconds,
            )?;
            within(
                "linear_s_per_token",
                costs.linear_s_per_token,
                tokens,
                seconds,
            )?;
            within(
                "constant_s_per_sequence",
                costs.constant_s_per_sequence,
                1.0,
                seconds,
            )?;
            for &(_, value) in &costs.exchange_s_per_token {
                within("exchange_s_per_token", value, tokens, seconds)?;
            }
            for &(_, value) in &costs.many_nodes_exchange_s_per_token {
                within("many_nodes_exchange_s_per_token", value, tokens, seconds)?;
            }
            for &(_, value) in &costs.memory_bytes_per_token {
                within("memory_bytes_per_token", value, tokens, bytes)?;
            }
            if let Some(host) = &costs.host {
                within(
                    "host.copy_s_per_token",
                    host.copy_s_per_token,
                    tokens,
                    seconds,
                )?;
                within("host.bytes_per_token", host.bytes_per_token, tokens, bytes)?;
            }
        }
        Ok(())
    }
}

impl KindCosts {
    fn check(&self) -> Result<(), CostError> {
        check_coefficient("quadratic_s_per_token2", self.quadratic_s_per_token2)?;
        check_coefficient("linear_s_per_token", self.linear_s_per_token)?;
        check_coefficient("constant_s_per_sequence", self.constant_s_per_sequence)?;
        check_table("exchange_s_per_token", &self.exchange_s_per_token)?;
        check_table(
            "many_nodes_exchange_s_per_token",
            &self.many_nodes_exchange_s_per_token,
        )?;
        check_table("memory_bytes_per_token", &self.memory_bytes_per_token)?;
        self.ring.as_ref().map_or(Ok(()), RingCosts::check)?;
        self.host.as_ref().map_or(Ok(()), HostCosts::check)
    }
}

fn is_cost(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

pub(crate) fn check_coefficient(name: &'static str, value: f64) -> Result<(), CostError> {
    if is_cost(value) {
        Ok(())
    } else {
        Err(CostError::BadCoefficient { name, value })
    }
}

pub(crate) fn check_table(name: &'static str, table: &[(Degree, f64)]) -> Result<(), CostError> {
    for (position, &(degree, value)) in table.iter().enumerate() {
        if !is_cost(value) {
            let degree = degree.get();
            return Err(CostError::BadEntry {
                name,
                degree,
                value,
            });
        }
        if table[..position]
            .iter()
            .any(|&(earlier, _)| earlier == degree)
        {
            let degree = degree.get();
            return Err(CostError::DegreeTwice { name, degree });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Activations;

    use super::*;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    fn check(costs: KindCosts) -> String {
        let kind = StrategyKind::ulysses(Activations::Keep);
        let costs = FittedCosts::of_kind(kind, costs);
        costs.check().unwrap_err().to_string()
    }

    #[test]
    fn what_no_sum_could_hold_is_refused_by_name() {
        let kind = StrategyKind::ulysses(Activations::Keep);
        let costs = |linear, bytes| {
            let costs = KindCosts {
                linear_s_per_token: linear,
                memory_bytes_per_token: vec![(Degree::ONE, bytes)],
                ..KindCosts::default()
            };
            FittedCosts::of_kind(kind, costs).check_reach(Tokens(1000))
        };
        assert_eq!(costs(1e-6, 1e6), Ok(()));
        assert_eq!(
            costs(1e308, 1e6).unwrap_err().to_string(),
            "linear_s_per_token is 1e308, by which a sequence of 1000 tokens, the longest allowed, costs inf s; at most \
             1e15 can be planned with"
        );
        let error = costs(1e-6, 1e17).unwrap_err().to_string();
        assert!(
            error.starts_with("memory_bytes_per_token is 1e17, by which"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_cost_is_refused_by_name() {
        let negative = KindCosts {
            linear_s_per_token: -1.0,
            ..KindCosts::default()
        };
        assert_eq!(
            check(negative),
            "linear_s_per_token is -1; it must be finite and not negative"
        );
        let nan = KindCosts {
            exchange_s_per_token: vec![(degree(2), f64::NAN)],
            ..KindCosts::default()
        };
        assert_eq!(
            check(nan),
            "exchange_s_per_token of degree 2 is NaN; it must be finite and not negative"
        );
        let twice = KindCosts {
            memory_bytes_per_token: vec![(degree(2), 1.0), (degree(2), 2.0)],
            ..KindCosts::default()
        };
        assert_eq!(
            check(twice),
            "memory_bytes_per_token has two entries for degree 2; one is the rule"
        );
        let headless = FittedCosts {
            num_heads: Some(0),
            ..FittedCosts::default()
        };
        assert_eq!(headless.check(), Err(CostError::NoHeads));
    }
}
