//! The treatment of activations between a layer's forward and its backward.

use std::fmt;
use std::str::FromStr;

use crate::CoreError;

/// Where a layer's activations are when its backward needs them: a choice between time, device memory and host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activations {
    /// They stay on the device.
    Keep,
    /// Only the layer's input stays on the device; its forward runs again before its backward.
    Recompute,
    /// As [`Activations::Recompute`], with the layer's input moved to the host meanwhile.
    Host,
}

impl Activations {
    /// All choices, in the order of decreasing device memory.
    pub const ALL: [Activations; 3] =
        [Activations::Keep, Activations::Recompute, Activations::Host];

    /// Its name in files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Activations::Keep => "keep",
            Activations::Recompute => "recompute",
            Activations::Host => "host",
        }
    }

    /// Whether a layer's forward runs again before its backward.
    pub const fn recomputes(self) -> bool {
        !matches!(self, Activations::Keep)
    }
}

impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activations {
    type Err = CoreError;

    fn from_str(name: &str) -> Result<Self, CoreError> {
        let named = Self::ALL.into_iter().find(|choice| choice.name() == name);
        named.ok_or_else(|| CoreError::UnknownActivations {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for choice in Activations::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!(
            "offload".parse::<Activations>().unwrap_err().to_string(),
            r#""offload" is no choice for activations; they can be "keep", "recompute" or "host""#
        );
    }
}
