//! Which strategies are open to a planner.

use crate::{Activations, CoreError, Degree, Strategy, StrategyFamily};

/// The strategies that a planner may choose from, by increasing degree; several may have the same degree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategySpace {
    strategies: Vec<Strategy>,
}

/// The strategies that a model and a cluster allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Query heads of a device; `None` where they don't limit degrees.
    pub num_heads: Option<u32>,
    /// Ranks of a node.
    pub ranks_per_node: u32,
    /// All ranks.
    pub num_ranks: u32,
}

/// Degrees of rings are counted exactly up to twice this, and with as many steps for each doubling beyond it: heads don't
/// limit them, and planners need not choose between 1,000 and 1,001 ranks.
const STEPS_PER_DOUBLING: u32 = 8;

/// Hybrids of one degree.
const MOST_HYBRIDS: usize = 2;

impl SpaceLimits {
    fn allows_heads(&self, ulysses: u32) -> bool {
        self.num_heads.is_none_or(|heads| ulysses <= heads)
    }

    /// The degrees of a family that are worth a choice.
    fn degrees(&self, family: StrategyFamily) -> Vec<u32> {
        match family {
            StrategyFamily::Ulysses => {
                let largest = self.num_heads.unwrap_or(u32::MAX).min(self.num_ranks);
                (1..=largest).collect()
            }
            StrategyFamily::Ring | StrategyFamily::Hybrid => self.degrees_of_rings(),
        }
    }

    fn degrees_of_rings(&self) -> Vec<u32> {
        let mut degrees: Vec<u32> = (1..2 * STEPS_PER_DOUBLING).collect();
        let mut step = 1;
        while let Some(first) = STEPS_PER_DOUBLING.checked_mul(2 * step)
            && first <= self.num_ranks
        {
            step *= 2;
            degrees.extend((0..STEPS_PER_DOUBLING).map(|place| first + place * step));
        }
        degrees.extend([self.ranks_per_node, self.num_ranks]);
        degrees.retain(|&degree| degree <= self.num_ranks);
        degrees
    }

    /// The parts `(ulysses, ring)` of the strategies of a family that have this degree.
    fn parts(&self, family: StrategyFamily, degree: u32) -> Vec<(u32, u32)> {
        match family {
            StrategyFamily::Ulysses => vec![(degree, 1)],
            StrategyFamily::Ring => vec![(1, degree)],
            StrategyFamily::Hybrid => {
                let num_nodes = self.num_ranks.div_ceil(self.ranks_per_node.max(1));
                let largest = (degree / 2).min(self.ranks_per_node);
                let places_in_nodes = (2..=largest).rev().filter(|&ulysses| {
                    degree.is_multiple_of(ulysses)
                        && self.ranks_per_node.is_multiple_of(ulysses)
                        && self
                            .num_heads
                            .is_none_or(|heads| heads.is_multiple_of(ulysses))
                });
                let parts = places_in_nodes.map(|ulysses| (ulysses, degree / ulysses));
                let parts = parts.filter(|&(_, ring)| ring.is_power_of_two() || ring == num_nodes);
                parts.take(MOST_HYBRIDS).collect()
            }
        }
    }
}

impl StrategySpace {
    /// The strategies of these families and of these choices for activations that are worth a choice where a model and a
    /// cluster set `limits`; a rank on its own is always among them, unless other `degrees` are asked for.
    ///
    /// | family | degrees | of one degree |
    /// | --- | --- | --- |
    /// | Ulysses | every one up to the heads | one |
    /// | ring | those with at most four significant bits (1 to 16, 18, 20 to 32, 36 to 64 and so on), all ranks of a node and all ranks | one |
    /// | hybrid | the same | the two with the largest places, each of which is on one node and divides the heads evenly; with a power of two places or as many as nodes |
    ///
    /// Smaller places send more key/value blocks around, and blocks of as many heads; so only where the largest are too
    /// slow at exchanging is there a reason for others. Each is there with every choice for activations. With `degrees`,
    /// it is those instead, as far as heads and ranks allow them.
    ///
    /// # Errors
    ///
    /// None is left.
    pub fn chosen(
        families: &[StrategyFamily],
        activations: &[Activations],
        limits: SpaceLimits,
        degrees: Option<&[Degree]>,
    ) -> Result<Self, CoreError> {
        let mut parts = Vec::new();
        if degrees.is_none() {
            parts.push((1, 1));
        }
        for &family in families {
            let of_family = match degrees {
                None => limits.degrees(family),
                Some(degrees) => degrees.iter().map(|degree| degree.get()).collect(),
            };
            let of_family = of_family
                .into_iter()
                .flat_map(|degree| limits.parts(family, degree));
            parts.extend(of_family.filter(|&(ulysses, ring)| {
                limits.allows_heads(ulysses)
                    && ulysses
                        .checked_mul(ring)
                        .is_some_and(|d| d <= limits.num_ranks)
            }));
        }
        let mut strategies = Vec::new();
        for (ulysses, ring) in parts {
            let (ulysses, ring) = (Degree::new(ulysses)?, Degree::new(ring)?);
            for &activations in activations {
                strategies.push(Strategy::new(ulysses, ring, activations)?);
            }
        }
        if let Some(degrees @ [_, ..]) = degrees
            && strategies.is_empty()
        {
            let num_ranks = limits.num_ranks;
            let reason = if degrees.iter().all(|degree| degree.get() > num_ranks) {
                format!("all are above {num_ranks}")
            } else {
                format!("no group can have one of {}", join(degrees))
            };
            return Err(CoreError::NoDegrees { reason });
        }
        Self::new(strategies)
    }

    /// Only those strategies that are of these families and choices; a rank on its own is of every family.
    ///
    /// # Errors
    ///
    /// None is left.
    pub fn of(
        &self,
        families: &[StrategyFamily],
        activations: &[Activations],
    ) -> Result<Self, CoreError> {
        let is_of = |strategy: &Strategy| {
            let alone = strategy.degree() == Degree::ONE;
            (alone || families.contains(&strategy.family()))
                && activations.contains(&strategy.activations())
        };
        Self::new(self.strategies.iter().copied().filter(is_of))
    }

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
    fn places_of_hybrids_are_on_one_node_and_divide_the_heads() {
        let limits = SpaceLimits {
            num_heads: Some(32),
            ranks_per_node: 8,
            num_ranks: 64,
        };
        let space = StrategySpace::chosen(
            &[StrategyFamily::Hybrid],
            &[Activations::Keep],
            limits,
            None,
        );
        let space = space.unwrap();
        let of_degree = |degree: u32| {
            let strategies = space.strategies().iter();
            let of_degree = strategies.filter(|strategy| strategy.degree().get() == degree);
            let parts = of_degree.map(|s| (s.ulysses_degree().get(), s.ring_degree().get()));
            parts.collect::<Vec<_>>()
        };
        assert_eq!(of_degree(1), [(1, 1)]);
        assert_eq!(of_degree(4), [(2, 2)]);
        assert_eq!(of_degree(8), [(4, 2), (2, 4)]);
        assert_eq!(of_degree(12), []);
        assert_eq!(of_degree(64), [(8, 8), (4, 16)]);
    }

    #[test]
    fn every_family_has_its_degrees_with_every_choice_for_activations() {
        let limits = SpaceLimits {
            num_heads: Some(6),
            ranks_per_node: 4,
            num_ranks: 20,
        };
        let space = |families: &[StrategyFamily]| {
            StrategySpace::chosen(families, &Activations::ALL, limits, None).unwrap()
        };
        let ulysses = space(&[StrategyFamily::Ulysses]);
        assert_eq!(ulysses.strategies().len(), 6 * 3);
        let rings = space(&[StrategyFamily::Ring]);
        let degrees: Vec<u32> = rings.degrees().map(Degree::get).collect();
        assert_eq!(degrees, (1..=16).chain([18, 20]).collect::<Vec<_>>());
        let all = space(&StrategyFamily::ALL);
        assert!(rings.strategies().iter().all(|&ring| all.contains(ring)));
        let only = all
            .of(&[StrategyFamily::Ring], &[Activations::Host])
            .unwrap();
        assert_eq!(only.strategies().len(), 18);
        let two = [Degree::new(2).unwrap()];
        let chosen = StrategySpace::chosen(
            &StrategyFamily::ALL,
            &[Activations::Keep],
            limits,
            Some(&two),
        );
        assert_eq!(chosen.unwrap().strategies().len(), 2);
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

    #[test]
    fn degrees_that_no_group_can_have_say_why() {
        let limits = SpaceLimits {
            num_heads: Some(2),
            ranks_per_node: 8,
            num_ranks: 8,
        };
        let chosen = |degree| {
            let degrees = [Degree::new(degree).unwrap()];
            let (families, activations) = ([StrategyFamily::Ulysses], [Activations::Keep]);
            let chosen = StrategySpace::chosen(&families, &activations, limits, Some(&degrees));
            chosen.unwrap_err().to_string()
        };
        let none = "no degree is left to plan with";
        assert_eq!(chosen(16), format!("{none}; all are above 8"));
        assert_eq!(chosen(4), format!("{none}; no group can have one of 4"));
    }
}
