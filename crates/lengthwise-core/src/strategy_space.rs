//! Which strategies are open to a planner.

use crate::{Activations, CoreError, Degree, Strategy};

/// The strategies that a planner may choose from, by increasing degree; several may have the same degree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategySpace {
    strategies: Vec<Strategy>,
}

impl StrategySpace {
    /// These strategies, in any order.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(strategies: impl IntoIterator<Item = Strategy>) -> Result<Self, CoreError> {
        let mut strategies: Vec<Strategy> = strategies.into_iter().collect();
        strategies.sort_unstable();
        strategies.dedup();
        if strategies.is_empty() {
            return Err(CoreError::NoDegrees {
                reason: "the list of degrees is empty".to_owned(),
            });
        }
        Ok(StrategySpace { strategies })
    }

    /// Every Ulysses degree from 1 to `num_heads`: each rank must attend with at least one query head.
    ///
    /// Degrees need not divide the number of heads, nor of key/value heads: a cost model charges the
    /// imbalance of `ceil(heads / degree)`.
    ///
    /// # Errors
    ///
    /// There are no heads.
    pub fn ulysses_up_to(num_heads: u32, activations: Activations) -> Result<Self, CoreError> {
        let degrees: Vec<Degree> = (1..=num_heads)
            .filter_map(|degree| Degree::new(degree).ok())
            .collect();
        Self::ulysses(&degrees, activations)
    }

    /// Ulysses with the listed degrees, in any order.
    ///
    /// # Errors
    ///
    /// The list is empty.
    pub fn ulysses(degrees: &[Degree], activations: Activations) -> Result<Self, CoreError> {
        let strategy = |&degree| Strategy::ulysses(degree, activations);
        Self::new(degrees.iter().map(strategy))
    }

    /// Only those strategies whose degree is in `degrees`.
    ///
    /// # Errors
    ///
    /// None is left.
    pub fn restricted_to(&self, degrees: &[Degree]) -> Result<Self, CoreError> {
        self.filtered(
            |degree| degrees.contains(&degree),
            || format!("none of {} is allowed", join(degrees)),
        )
    }

    /// Only those strategies whose degree is at most `largest`, such as the number of devices.
    ///
    /// # Errors
    ///
    /// None is left.
    pub fn limited_to(&self, largest: u32) -> Result<Self, CoreError> {
        self.filtered(
            |degree| degree.get() <= largest,
            || format!("all are above {largest}"),
        )
    }

    fn filtered(
        &self,
        keep: impl Fn(Degree) -> bool,
        reason: impl Fn() -> String,
    ) -> Result<Self, CoreError> {
        let strategies: Vec<Strategy> = self
            .strategies
            .iter()
            .copied()
            .filter(|strategy| keep(strategy.degree()))
            .collect();
        if strategies.is_empty() {
            return Err(CoreError::NoDegrees { reason: reason() });
        }
        Ok(StrategySpace { strategies })
    }

    /// The strategies, by increasing degree; at least one.
    pub fn strategies(&self) -> &[Strategy] {
        &self.strategies
    }

    /// The degrees, increasing and each once; at least one.
    pub fn degrees(&self) -> impl DoubleEndedIterator<Item = Degree> + '_ {
        let of_one_degree = self.strategies.chunk_by(|a, b| a.degree() == b.degree());
        of_one_degree.map(|strategies| strategies[0].degree())
    }

    /// Whether a group may use `strategy`.
    pub fn contains(&self, strategy: Strategy) -> bool {
        self.strategies.binary_search(&strategy).is_ok()
    }
}

fn join(degrees: &[Degree]) -> String {
    degrees
        .iter()
        .map(|degree| degree.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_sorted_and_without_twins() {
        let degrees = [4, 1, 4, 3].map(|degree| Degree::new(degree).unwrap());
        let space = StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap();
        assert_eq!(
            space.degrees().map(Degree::get).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert!(!space.contains(Strategy::ulysses(Degree::ONE, Activations::Keep)));
        assert_eq!(space.limited_to(3).unwrap().strategies().len(), 2);
    }

    #[test]
    fn several_strategies_may_have_one_degree() {
        let degree = |degree| Degree::new(degree).unwrap();
        let strategies = [(4, 1), (2, 2), (1, 1)].map(|(ulysses, ring)| {
            Strategy::new(degree(ulysses), degree(ring), Activations::Keep).unwrap()
        });
        let space = StrategySpace::new(strategies).unwrap();
        assert_eq!(space.strategies().len(), 3);
        assert_eq!(space.degrees().map(Degree::get).collect::<Vec<_>>(), [1, 4]);
        assert!(strategies.iter().all(|&strategy| space.contains(strategy)));
        let fours = space.restricted_to(&[degree(4)]).unwrap();
        assert_eq!(fours.strategies().len(), 2);
    }

    #[test]
    fn an_empty_space_says_why() {
        let space = StrategySpace::ulysses_up_to(4, Activations::Recompute).unwrap();
        let error = space.restricted_to(&[Degree::new(8).unwrap()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no degree is left to plan with; none of 8 is allowed"
        );
        assert!(StrategySpace::ulysses_up_to(0, Activations::Recompute).is_err());
    }
}
