//! The ways in which groups may exchange, where they were chosen.

use std::fmt;
use std::str::FromStr;

use lengthwise_core::Exchange;

use crate::InputError;
use crate::suggestion::suggestion;

/// The ways in which the ranks of a group may get at each other's tokens, by the names that plans and profiles use.
///
/// ```
/// use lengthwise_core::Exchange;
/// use lengthwise_inputs::Exchanges;
///
/// let both: Exchanges = "ulysses,ring".parse()?;
/// assert_eq!(both.as_slice(), [Exchange::Ulysses, Exchange::Ring]);
/// assert_eq!(Exchanges::default().to_string(), "ulysses");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchanges {
    /// Tokens for heads, by all-to-all.
    #[default]
    Ulysses,
    /// Key/value blocks, passed around.
    Ring,
    /// Every group in one of the two ways.
    UlyssesOrRing,
}

impl Exchanges {
    /// The names of each.
    pub const NAMES: [&'static str; 2] = ["ulysses", "ring"];

    /// Each of them.
    pub const fn as_slice(self) -> &'static [Exchange] {
        match self {
            Exchanges::Ulysses => &[Exchange::Ulysses],
            Exchanges::Ring => &[Exchange::Ring],
            Exchanges::UlyssesOrRing => &[Exchange::Ulysses, Exchange::Ring],
        }
    }

    /// Whether groups may be rings.
    pub const fn has_rings(self) -> bool {
        !matches!(self, Exchanges::Ulysses)
    }
}

impl fmt::Display for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.as_slice().iter().map(Exchange::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Exchanges {
    type Err = InputError;

    /// Reads a name, or both with a comma between them.
    fn from_str(text: &str) -> Result<Self, InputError> {
        let (mut ulysses, mut ring) = (false, false);
        for name in text.split(',').map(str::trim) {
            let chosen = match name {
                "ulysses" => &mut ulysses,
                "ring" => &mut ring,
                _ => {
                    let name = name.to_owned();
                    return Err(InputError::UnknownExchange { name });
                }
            };
            if std::mem::replace(chosen, true) {
                let name = name.to_owned();
                return Err(InputError::RepeatedExchange { name });
            }
        }
        Ok(match (ulysses, ring) {
            (true, true) => Exchanges::UlyssesOrRing,
            (false, true) => Exchanges::Ring,
            _ => Exchanges::Ulysses,
        })
    }
}

/// What an unknown name was probably meant to be.
pub(crate) fn hint_for_exchange(name: &str) -> String {
    suggestion(name, &Exchanges::NAMES, "known are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for exchanges in [
            Exchanges::Ulysses,
            Exchanges::Ring,
            Exchanges::UlyssesOrRing,
        ] {
            let text = exchanges.to_string();
            assert_eq!(text.parse::<Exchanges>().unwrap(), exchanges);
        }
        let swapped: Exchanges = " ring, ulysses".parse().unwrap();
        assert_eq!(swapped, Exchanges::UlyssesOrRing);
    }

    #[test]
    fn other_names_are_refused() {
        let told = |text: &str| {
            let error = text.parse::<Exchanges>().unwrap_err();
            let hint = error.hint().unwrap_or_default();
            format!("{error}; {hint}")
        };
        assert_eq!(
            told("ulyses"),
            "there is no exchange ulyses; groups exchange by ulysses, ring or both; did you mean ulysses?"
        );
        assert_eq!(
            told(""),
            "there is no exchange ; groups exchange by ulysses, ring or both; known are ulysses, ring"
        );
        assert_eq!(
            told("ring,ring"),
            "exchange ring is listed twice; once is the rule; "
        );
    }
}
