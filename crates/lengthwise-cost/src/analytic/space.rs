//! The degrees that groups can have on a described cluster, and those that tables of costs list.

use lengthwise_core::{Degree, Exchange, Strategy, StrategySpace};

use super::AnalyticModel;
use crate::{HardwareError, Span};

/// Degrees of rings are counted exactly up to this, and with as many steps for each doubling beyond it: heads don't limit
/// them, and planners need not choose between 1,000 and 1,001 ranks.
const STEPS_PER_DOUBLING: u32 = 8;

impl AnalyticModel {
    /// Every degree that the model's heads and the number of ranks permit for groups that exchange tokens for heads.
    ///
    /// # Errors
    ///
    /// None: there are at least one head and one device.
    pub fn space(&self) -> Result<StrategySpace, HardwareError> {
        self.space_of(&[Exchange::Ulysses])
    }

    /// The strategies of groups that exchange in one of these ways; a rank on its own is always one of them.
    ///
    /// The degrees of rings are those with at most four significant bits (1 to 16, 18, 20 to 32, 36 to 64 and so on), all
    /// ranks of a node and all ranks.
    ///
    /// # Errors
    ///
    /// None: a rank can be on its own.
    pub fn space_of(&self, exchanges: &[Exchange]) -> Result<StrategySpace, HardwareError> {
        let activations = self.kind().activations;
        let largest = self.num_heads().min(self.num_ranks());
        let mut strategies = vec![Strategy::ulysses(Degree::ONE, activations)];
        for &exchange in exchanges {
            let degrees = match exchange {
                Exchange::Ulysses => (1..=largest).collect(),
                Exchange::Ring => self.degrees_of_rings(),
                Exchange::UlyssesRing { ring } => {
                    let places = self.listed_places(ring).into_iter();
                    let (ranks, heads) = (self.num_ranks(), self.num_heads());
                    let fitting = places.filter(|&(degree, ulysses)| {
                        degree.get() <= ranks && ulysses.get() <= heads
                    });
                    fitting.map(|(degree, _)| degree.get()).collect()
                }
            };
            strategies.extend(self.strategies(exchange, degrees));
        }
        Ok(StrategySpace::new(strategies)?)
    }

    /// The strategies of these degrees that exchange in this way, as far as its places divide them; whether there are as
    /// many heads or ranks is not looked at.
    pub fn strategies(
        &self,
        exchange: Exchange,
        degrees: impl IntoIterator<Item = u32>,
    ) -> Vec<Strategy> {
        let activations = self.kind().activations;
        let of_degree = |degree: u32| {
            let places = match exchange {
                Exchange::Ulysses => 1,
                Exchange::Ring => degree,
                Exchange::UlyssesRing { ring } => ring.get(),
            };
            let ulysses = degree.checked_div(places)?;
            if !degree.is_multiple_of(places) {
                return None;
            }
            let (ulysses, places) = (Degree::new(ulysses).ok()?, Degree::new(places).ok()?);
            Strategy::new(ulysses, places, activations).ok()
        };
        degrees.into_iter().filter_map(of_degree).collect()
    }

    fn degrees_of_rings(&self) -> Vec<u32> {
        let (all, node) = (self.num_ranks(), self.ranks_per_node());
        let mut degrees: Vec<u32> = (1..2 * STEPS_PER_DOUBLING).collect();
        let mut step = 1;
        while let Some(first) = STEPS_PER_DOUBLING.checked_mul(2 * step)
            && first <= all
        {
            step *= 2;
            degrees.extend((0..STEPS_PER_DOUBLING).map(|place| first + place * step));
        }
        degrees.extend([node, all]);
        degrees.retain(|&degree| degree <= all);
        degrees
    }

    /// The degrees that tables list: powers of two, and all ranks of a node or of the cluster.
    pub(super) fn listed_degrees(&self, span: Span) -> Vec<Degree> {
        let num_ranks = self.num_ranks();
        let per_node = self.ranks_per_node().min(num_ranks);
        let largest = match span {
            Span::OneNode => per_node,
            Span::ManyNodes if per_node == num_ranks => return Vec::new(),
            Span::ManyNodes => num_ranks,
        };
        let powers = (1..32).map(|power| 1u32 << power);
        let mut degrees: Vec<u32> = powers.chain([per_node, num_ranks]).collect();
        degrees.retain(|&degree| degree >= 2 && degree <= largest);
        degrees.sort_unstable();
        degrees.dedup();
        degrees
            .into_iter()
            .filter_map(|d| Degree::new(d).ok())
            .collect()
    }

    /// The rings of places that exchange tokens for heads.
    pub(super) fn listed_rings(&self) -> impl Iterator<Item = Exchange> {
        let num_ranks = self.num_ranks();
        let num_nodes = num_ranks.div_ceil(self.ranks_per_node());
        let powers = (1..32).map(|power| 1u32 << power);
        let rings = powers.chain([num_nodes]);
        let rings = rings.filter(move |&ring| ring >= 2 && ring <= num_ranks / 2);
        let rings = rings.filter_map(|ring| Degree::new(ring).ok());
        rings.map(|ring| Exchange::UlyssesRing { ring })
    }

    /// Degrees of rings of so many places that tables list, each with the ranks of a place: powers of two.
    pub(super) fn listed_places(&self, ring: Degree) -> Vec<(Degree, Degree)> {
        let powers = (1..32).map(|power| 1u32 << power);
        let largest = self.num_heads().max(2);
        let places = powers.take_while(|&ulysses| ulysses <= largest);
        let degrees = places.filter_map(|ulysses| {
            let degree = ring.get().checked_mul(ulysses)?;
            Some((Degree::new(degree).ok()?, Degree::new(ulysses).ok()?))
        });
        degrees.collect()
    }
}
