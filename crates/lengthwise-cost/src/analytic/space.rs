//! The degrees that groups can have on a described cluster, and those that tables of costs list.

use lengthwise_core::{
    Activations, CoreError, Degree, Exchange, SpaceLimits, StrategyFamily, StrategySpace,
};

use super::AnalyticModel;
use crate::{HardwareError, Span};

impl AnalyticModel {
    /// Every degree that the model's heads and the number of ranks permit for groups that exchange tokens for heads, with
    /// activations as the architecture has them.
    ///
    /// # Errors
    ///
    /// None: there are at least one head and one device.
    pub fn space(&self) -> Result<StrategySpace, HardwareError> {
        let own = self.kind().activations;
        Ok(self.space_of(&[StrategyFamily::Ulysses], &[own], None)?)
    }

    /// The strategies of these families and choices for activations, of these degrees or of all that are worth a choice
    /// ([`StrategySpace::chosen`]).
    ///
    /// # Errors
    ///
    /// There is none, or one of the choices is not open here.
    pub fn space_of(
        &self,
        families: &[StrategyFamily],
        activations: &[Activations],
        degrees: Option<&[Degree]>,
    ) -> Result<StrategySpace, CoreError> {
        let limits = SpaceLimits {
            num_heads: Some(self.num_heads()),
            ranks_per_node: self.ranks_per_node(),
            num_ranks: self.num_ranks(),
        };
        StrategySpace::chosen(families, activations, limits, degrees)
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
