//! How a group scatters a sequence.

use std::fmt;

use crate::{Activations, CoreError, Degree};

/// How the ranks of a group share each of their sequences, and what they do with activations.
///
/// The degree is the product of two parts: `ulysses` ranks exchange tokens for heads by all-to-all (every
/// rank attends over the whole sequence with some of the heads), and `ring` such sets pass key/value blocks
/// around.
///
/// Strategies are ordered by degree, then by the ring's part, then by activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strategy {
    degree: Degree,
    ring: Degree,
    ulysses: Degree,
    activations: Activations,
}

impl Strategy {
    /// A group of `ulysses` times `ring` ranks.
    ///
    /// # Errors
    ///
    /// The product is more than a degree can be.
    pub fn new(ulysses: Degree, ring: Degree, activations: Activations) -> Result<Self, CoreError> {
        let product = ulysses.get().checked_mul(ring.get());
        let product = product.ok_or(CoreError::DegreeTooLarge { ulysses, ring })?;
        Ok(Strategy {
            degree: Degree::new(product)?,
            ring,
            ulysses,
            activations,
        })
    }

    /// All-to-all over the whole group.
    pub const fn ulysses(degree: Degree, activations: Activations) -> Self {
        Strategy {
            degree,
            ring: Degree::ONE,
            ulysses: degree,
            activations,
        }
    }

    /// Key/value blocks passed around the whole group; a rank on its own has none to pass.
    pub const fn ring(degree: Degree, activations: Activations) -> Self {
        Strategy {
            degree,
            ring: degree,
            ulysses: Degree::ONE,
            activations,
        }
    }

    /// The number of ranks of a group with this strategy.
    pub const fn degree(self) -> Degree {
        self.degree
    }

    /// The part of the degree that exchanges tokens for heads.
    pub const fn ulysses_degree(self) -> Degree {
        self.ulysses
    }

    /// The part of the degree that passes key/value blocks around.
    pub const fn ring_degree(self) -> Degree {
        self.ring
    }

    /// The treatment of activations between forward and backward.
    pub const fn activations(self) -> Activations {
        self.activations
    }

    /// The same with another choice for activations.
    #[must_use]
    pub const fn with_activations(self, activations: Activations) -> Self {
        Strategy {
            activations,
            ..self
        }
    }

    /// `8`, `8r` for a ring, or `4x2` for a ring of two places of four ranks; where activations are not treated as usual, with
    /// the way they are: `8 host`.
    pub fn short(self, usual: Activations) -> String {
        let parts = match (self.ulysses, self.ring) {
            (ulysses, Degree::ONE) => ulysses.to_string(),
            (Degree::ONE, ring) => format!("{ring}r"),
            (ulysses, ring) => format!("{ulysses}x{ring}"),
        };
        if self.activations == usual {
            parts
        } else {
            format!("{parts} {}", self.activations)
        }
    }

    /// All that it is beside its degree.
    pub fn kind(self) -> StrategyKind {
        let exchange = if self.ring == Degree::ONE {
            Exchange::Ulysses
        } else if self.ulysses == Degree::ONE {
            Exchange::Ring
        } else {
            Exchange::UlyssesRing { ring: self.ring }
        };
        StrategyKind {
            exchange,
            activations: self.activations,
        }
    }
}

/// `8 recompute`, or `4x2 keep` for four Ulysses ranks in each of the two places of a ring.
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ulysses)?;
        if self.ring > Degree::ONE {
            write!(f, "x{}", self.ring)?;
        }
        write!(f, " {}", self.activations)
    }
}

/// A strategy without its degree: strategies of one kind differ in nothing else, so that what is known of some
/// degrees says something about the others. Costs are listed by kind, degree and span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrategyKind {
    /// How the ranks of a group get at each other's tokens.
    pub exchange: Exchange,
    /// The treatment of activations.
    pub activations: Activations,
}

impl StrategyKind {
    /// All-to-all over whole groups.
    pub const fn ulysses(activations: Activations) -> Self {
        StrategyKind {
            exchange: Exchange::Ulysses,
            activations,
        }
    }

    /// Key/value blocks passed around whole groups.
    pub const fn ring(activations: Activations) -> Self {
        StrategyKind {
            exchange: Exchange::Ring,
            activations,
        }
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StrategyKind {
            exchange,
            activations,
        } = self;
        write!(f, "{exchange}, activations {activations}")
    }
}

/// How the ranks of a group get at each other's tokens for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exchange {
    /// Tokens for heads and back, by all-to-all; also of a rank on its own, which exchanges nothing.
    Ulysses,
    /// Key/value blocks, passed around.
    Ring,
    /// Both: a ring of so many places, with the ranks of a place exchanging tokens for heads.
    UlyssesRing {
        /// The places of the ring; above 1.
        ring: Degree,
    },
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exchange::Ulysses => f.write_str("ulysses"),
            Exchange::Ring => f.write_str("ring"),
            Exchange::UlyssesRing { ring } => write!(f, "ulysses x ring {ring}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(ulysses: u32, ring: u32, activations: Activations) -> Strategy {
        let degree = |degree| Degree::new(degree).unwrap();
        Strategy::new(degree(ulysses), degree(ring), activations).unwrap()
    }

    #[test]
    fn the_degree_is_the_product_of_both_parts() {
        let both = strategy(4, 2, Activations::Keep);
        assert_eq!(both.degree().get(), 8);
        assert_eq!(both.to_string(), "4x2 keep");
        let half = Degree::new(1 << 16).unwrap();
        let error = Strategy::new(half, half, Activations::Keep).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ulysses 65536 times ring 65536 is more than a degree can be, 4294967295"
        );
    }

    #[test]
    fn rings_are_told_from_groups_that_exchange_heads() {
        let short = |ulysses, ring, activations| {
            let strategy = strategy(ulysses, ring, activations);
            strategy.short(Activations::Recompute)
        };
        let recompute = Activations::Recompute;
        let usual = [(8, 1), (1, 8), (4, 2), (1, 1)].map(|(u, r)| short(u, r, recompute));
        assert_eq!(usual, ["8", "8r", "4x2", "1"]);
        assert_eq!(short(8, 1, Activations::Host), "8 host");
        assert_eq!(short(4, 2, Activations::Keep), "4x2 keep");
    }

    #[test]
    fn the_degree_decides_their_order_before_anything_else() {
        let mut strategies = [
            strategy(8, 1, Activations::Keep),
            strategy(1, 4, Activations::Keep),
            strategy(4, 1, Activations::Host),
            strategy(2, 2, Activations::Keep),
            strategy(4, 1, Activations::Keep),
        ];
        strategies.sort();
        let names: Vec<String> = strategies.iter().map(Strategy::to_string).collect();
        assert_eq!(
            names,
            ["4 keep", "4 host", "2x2 keep", "1x4 keep", "8 keep"]
        );
    }

    #[test]
    fn a_ring_of_one_rank_exchanges_as_a_rank_on_its_own() {
        let alone = Strategy::ring(Degree::ONE, Activations::Keep);
        assert_eq!(alone, Strategy::ulysses(Degree::ONE, Activations::Keep));
        let eight = Strategy::ring(Degree::new(8).unwrap(), Activations::Keep);
        assert_eq!(eight, strategy(1, 8, Activations::Keep));
        assert_eq!(eight.kind(), StrategyKind::ring(Activations::Keep));
    }

    #[test]
    fn a_kind_and_a_degree_make_a_strategy() {
        let mut seen = std::collections::HashSet::new();
        for (ulysses, ring) in [(1, 1), (8, 1), (1, 8), (4, 2), (2, 4), (2, 2)] {
            for activations in Activations::ALL {
                let strategy = strategy(ulysses, ring, activations);
                assert!(seen.insert((strategy.kind(), strategy.degree())));
            }
        }
    }
}
