//! How a group scatters a sequence, and which ways are open to a planner.

use crate::{CoreError, Degree};

/// How the ranks of a group share each of their sequences.
///
/// The degree is the product of two parts: `ulysses` ranks exchange tokens for heads by all-to-all (every
/// rank attends over the whole sequence with some of the heads), and `ring` such sets pass key/value blocks
/// around. Whether activations are kept or recomputed in the backward pass belongs to it, since it trades
/// time for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strategy {
    ulysses: Degree,
    ring: Degree,
    recompute: bool,
}

impl Strategy {
    /// All-to-all over the whole group.
    pub const fn ulysses(degree: Degree, recompute: bool) -> Self {
        Strategy {
            ulysses: degree,
            ring: Degree::ONE,
            recompute,
        }
    }

    /// How many ranks a group with this strategy has.
    pub fn degree(self) -> Degree {
        // Both parts are checked against u32 where a ring above 1 can be made; today there is only Ulysses.
        self.ulysses
    }

    /// The part of the degree that exchanges tokens for heads.
    pub const fn ulysses_degree(self) -> Degree {
        self.ulysses
    }

    /// The part of the degree that passes key/value blocks around.
    pub const fn ring_degree(self) -> Degree {
        self.ring
    }

    /// Whether activations are recomputed in the backward pass instead of kept.
    pub const fn recompute(self) -> bool {
        self.recompute
    }
}

/// The strategies a planner may choose from: at most one for each degree, in increasing order of degree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategySpace {
    strategies: Vec<Strategy>,
}

impl StrategySpace {
    /// Every Ulysses degree from 1 to `num_heads`: each rank must attend with at least one query head.
    ///
    /// Degrees need not divide the number of heads, nor of key/value heads: a cost model charges the
    /// imbalance of `ceil(heads / degree)`.
    pub fn ulysses_up_to(num_heads: u32, recompute: bool) -> Result<Self, CoreError> {
        let degrees: Vec<Degree> = (1..=num_heads)
            .filter_map(|degree| Degree::new(degree).ok())
            .collect();
        Self::ulysses(&degrees, recompute)
    }

    /// Ulysses with the listed degrees, in any order.
    pub fn ulysses(degrees: &[Degree], recompute: bool) -> Result<Self, CoreError> {
        let mut strategies: Vec<Strategy> = degrees
            .iter()
            .map(|&degree| Strategy::ulysses(degree, recompute))
            .collect();
        strategies.sort_unstable();
        strategies.dedup();
        if strategies.is_empty() {
            return Err(CoreError::NoDegrees {
                reason: "the list of degrees is empty".to_owned(),
            });
        }
        Ok(StrategySpace { strategies })
    }

    /// Only those strategies whose degree is in `degrees`.
    pub fn restricted_to(&self, degrees: &[Degree]) -> Result<Self, CoreError> {
        self.filtered(
            |degree| degrees.contains(&degree),
            || format!("none of {} is allowed", join(degrees)),
        )
    }

    /// Only those strategies whose degree is at most `largest`, such as the number of devices.
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

    /// The degrees, increasing; at least one.
    pub fn degrees(&self) -> impl ExactSizeIterator<Item = Degree> + '_ {
        self.strategies.iter().map(|strategy| strategy.degree())
    }

    /// Whether a group may use `strategy`.
    pub fn contains(&self, strategy: Strategy) -> bool {
        self.strategies.contains(&strategy)
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
        let space = StrategySpace::ulysses(&degrees, true).unwrap();
        assert_eq!(
            space.degrees().map(Degree::get).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert!(!space.contains(Strategy::ulysses(Degree::ONE, false)));
        assert_eq!(space.limited_to(3).unwrap().strategies().len(), 2);
    }

    #[test]
    fn an_empty_space_says_why() {
        let space = StrategySpace::ulysses_up_to(4, true).unwrap();
        let error = space.restricted_to(&[Degree::new(8).unwrap()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no degree is left to plan with; none of 8 is allowed"
        );
        assert!(StrategySpace::ulysses_up_to(0, true).is_err());
    }
}
