//! What each family of strategies, and the choice for activations, adds.

use lengthwise_core::{Activations, Degree, StrategyFamily, StrategySpace};

/// A part of a strategy space, to be compared with all of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpacePart {
    families: Vec<StrategyFamily>,
    activations: Vec<Activations>,
}

impl SpacePart {
    /// The parts that grow up to a whole space, without itself: Ulysses alone, then with rings, then with hybrids, all with
    /// one choice for activations, which is to recompute if that is there. None where there is only one of each.
    pub(super) fn growing(space: &StrategySpace) -> Vec<SpacePart> {
        let strategies = space.strategies();
        let grouped = strategies.iter().filter(|one| one.degree() > Degree::ONE);
        let families: Vec<StrategyFamily> = grouped.map(|one| one.family()).collect();
        let has_choice = strategies
            .iter()
            .any(|one| one.activations() != strategies[0].activations());
        let recomputes = |activations: &Activations| *activations == Activations::Recompute;
        let all = || strategies.iter().map(|one| one.activations());
        let activations = all().find(recomputes).or_else(|| all().next());
        let mut parts = Vec::new();
        let mut so_far = Vec::new();
        for family in StrategyFamily::ALL {
            if families.contains(&family) {
                so_far.push(family);
                parts.push(SpacePart {
                    families: so_far.clone(),
                    activations: activations.into_iter().collect(),
                });
            }
        }
        if !has_choice {
            // The last one is all there is.
            parts.pop();
        }
        parts
    }

    /// The strategies of a space that are in this part.
    pub(super) fn of(
        &self,
        space: &StrategySpace,
    ) -> Result<StrategySpace, lengthwise_core::CoreError> {
        space.of(&self.families, &self.activations)
    }

    /// What the last family of it is called beside the planner: alone, or as what is added.
    pub(super) fn name(&self) -> String {
        match *self.families {
            [only] => only.to_string(),
            [.., last] => format!("+ {last}"),
            [] => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::SpaceLimits;

    use super::*;

    fn names(families: &[StrategyFamily], activations: &[Activations]) -> Vec<String> {
        let limits = SpaceLimits {
            num_heads: Some(8),
            ranks_per_node: 8,
            num_ranks: 16,
        };
        let space = StrategySpace::chosen(families, activations, limits, None).unwrap();
        let parts = SpacePart::growing(&space);
        assert!(parts.iter().all(|part| part.of(&space).unwrap() != space));
        parts.iter().map(SpacePart::name).collect()
    }

    #[test]
    fn parts_grow_family_by_family_and_then_by_activations() {
        let (all, one) = (&Activations::ALL[..], &Activations::ALL[1..2]);
        let families = &StrategyFamily::ALL[..];
        assert_eq!(names(families, all), ["ulysses", "+ ring", "+ hybrid"]);
        assert_eq!(names(families, one), ["ulysses", "+ ring"]);
        assert_eq!(names(&families[..1], all), ["ulysses"]);
        assert!(names(&families[..1], one).is_empty());
    }
}
