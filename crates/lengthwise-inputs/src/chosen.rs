//! The choices that a planner is held to: families of strategies, and treatments of activations.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use lengthwise_core::{Activations, StrategyFamily};

use crate::InputError;
use crate::suggestion::suggestion;

/// The families of strategies that groups may be of: `ulysses`, `ring`, `hybrid`, several of them, or `all`.
///
/// ```
/// use lengthwise_core::StrategyFamily;
/// use lengthwise_inputs::StrategyFamilies;
///
/// let two: StrategyFamilies = "ulysses, ring".parse()?;
/// assert!(two.contains(StrategyFamily::Ring) && !two.contains(StrategyFamily::Hybrid));
/// assert_eq!(two.to_string(), "ulysses,ring");
/// assert_eq!(StrategyFamilies::default().to_string(), "all");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type StrategyFamilies = Chosen<StrategyFamily>;

/// The treatments of activations to choose from: `keep`, `recompute`, `host`, several of them, or `all`.
pub type ActivationChoices = Chosen<Activations>;

/// Something that can be chosen by name.
pub trait Choice: Copy + PartialEq + 'static {
    /// All there is, in order; at most eight.
    const ALL: &'static [Self];
    /// Its name in errors, after "no".
    const NOUN: &'static str;
    /// The name of several in errors.
    const NOUNS: &'static str;
    /// Its name in files and commands.
    fn name(self) -> &'static str;
}

impl Choice for StrategyFamily {
    const ALL: &'static [Self] = &StrategyFamily::ALL;
    const NOUN: &'static str = "family of strategies";
    const NOUNS: &'static str = "families of strategies";

    fn name(self) -> &'static str {
        StrategyFamily::name(self)
    }
}

impl Choice for Activations {
    const ALL: &'static [Self] = &Activations::ALL;
    const NOUN: &'static str = "choice for activations";
    const NOUNS: &'static str = "choices for activations";

    fn name(self) -> &'static str {
        Activations::name(self)
    }
}

/// Some of what can be chosen: what is listed, or all that costs know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen<T> {
    /// A bit for each, in order; `None` for all that there are costs of.
    listed: Option<u8>,
    of: PhantomData<T>,
}

impl<T> Default for Chosen<T> {
    fn default() -> Self {
        Chosen {
            listed: None,
            of: PhantomData,
        }
    }
}

impl<T: Choice> Chosen<T> {
    /// The name of all.
    pub const ALL: &'static str = "all";

    /// This one alone.
    pub fn only(choice: T) -> Self {
        let place = T::ALL.iter().position(|&other| other == choice);
        Chosen {
            listed: Some(place.map_or(0, |place| 1 << place)),
            of: PhantomData,
        }
    }

    /// Whether it is all that costs know.
    pub fn is_all(self) -> bool {
        self.listed.is_none()
    }

    /// Whether it is among them.
    pub fn contains(self, choice: T) -> bool {
        self.listed_of(T::ALL).any(|listed| listed == choice)
    }

    /// Those that are listed, or all of `known`.
    pub fn listed_of(self, known: &[T]) -> impl Iterator<Item = T> + '_ {
        let places = 0..T::ALL.len();
        let listed = places.filter(move |&place| match self.listed {
            Some(bits) => bits & (1 << place) != 0,
            None => known.contains(&T::ALL[place]),
        });
        listed.map(|place| T::ALL[place])
    }

    /// Those that are listed, of which all must be among `known`; or all of `known`.
    ///
    /// # Errors
    ///
    /// The first that is listed and not known.
    pub fn among(self, known: &[T]) -> Result<Vec<T>, T> {
        let listed: Vec<T> = self.listed_of(known).collect();
        match listed.iter().find(|choice| !known.contains(choice)) {
            Some(&unknown) => Err(unknown),
            None => Ok(listed),
        }
    }
}

impl Chosen<StrategyFamily> {
    /// Whether groups may be rings, or rings of places.
    pub fn has_rings(self) -> bool {
        self.contains(StrategyFamily::Ring) || self.contains(StrategyFamily::Hybrid)
    }
}

impl<T: Choice> fmt::Display for Chosen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str(Self::ALL);
        }
        let names: Vec<&str> = self.listed_of(T::ALL).map(T::name).collect();
        f.write_str(&names.join(","))
    }
}

impl<T: Choice> FromStr for Chosen<T> {
    type Err = InputError;

    /// Reads names with commas between them, or `all`.
    fn from_str(text: &str) -> Result<Self, InputError> {
        if text.trim() == Self::ALL {
            return Ok(Self::default());
        }
        let mut bits = 0u8;
        for name in text.split(',').map(str::trim) {
            if name == Self::ALL {
                return Err(InputError::AllBesideOthers { noun: T::NOUNS });
            }
            let place = T::ALL.iter().position(|choice| choice.name() == name);
            let Some(place) = place else {
                let (noun, name) = (T::NOUN, name.to_owned());
                let known: Vec<&str> = T::ALL.iter().map(|choice| choice.name()).collect();
                let hint = suggestion(&name, &[&known[..], &[Self::ALL]].concat(), "known are");
                return Err(InputError::UnknownChoice { noun, name, hint });
            };
            if bits & (1 << place) != 0 {
                let (noun, name) = (T::NOUN, name.to_owned());
                return Err(InputError::RepeatedChoice { noun, name });
            }
            bits |= 1 << place;
        }
        Ok(Chosen {
            listed: Some(bits),
            of: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for text in ["all", "ulysses", "ring", "hybrid", "ulysses,hybrid"] {
            assert_eq!(text.parse::<StrategyFamilies>().unwrap().to_string(), text);
        }
        let swapped: ActivationChoices = " host, keep".parse().unwrap();
        assert_eq!(swapped.to_string(), "keep,host");
        let all: ActivationChoices = "all".parse().unwrap();
        assert_eq!(all, ActivationChoices::default());
        let only = StrategyFamilies::only(StrategyFamily::Ring);
        assert_eq!(only.to_string(), "ring");
    }

    #[test]
    fn all_is_what_costs_know_and_a_list_is_what_it_says() {
        let known = [Activations::Recompute];
        assert_eq!(
            ActivationChoices::default().among(&known),
            Ok(known.to_vec())
        );
        let listed: ActivationChoices = "recompute,host".parse().unwrap();
        assert_eq!(listed.among(&known), Err(Activations::Host));
        assert_eq!(
            listed.among(&Activations::ALL),
            Ok(vec![Activations::Recompute, Activations::Host])
        );
    }

    #[test]
    fn other_names_are_refused() {
        let told = |error: InputError| format!("{error}; {}", error.hint().unwrap_or_default());
        let families = |text: &str| told(text.parse::<StrategyFamilies>().unwrap_err());
        assert_eq!(
            families("ulyses"),
            "there is no family of strategies ulyses; did you mean ulysses?"
        );
        assert_eq!(
            families(""),
            "there is no family of strategies ; known are ulysses, ring, hybrid, all"
        );
        assert_eq!(
            families("ring,ring"),
            "family of strategies ring is listed twice; once is the rule; "
        );
        let activations = "offload".parse::<ActivationChoices>().unwrap_err();
        assert_eq!(
            told(activations),
            "there is no choice for activations offload; known are keep, recompute, host, all"
        );
    }
}
