//! Quantities that can't be confused: integers for what is counted, checked floats for what is measured.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::str::FromStr;

use crate::CoreError;

/// A number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(pub u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A duration in seconds: finite and never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Seconds(f64);

/// How fast a device is beside the one the cost model was measured on: work takes `1 / speed` as long.
///
/// Finite and positive; [`Speed::NOMINAL`] is 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Speed(f64);

impl Tokens {
    /// The count as a float, for formulas. Exact below 2^53 tokens.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Reads `4096`, `384k` (thousands) or `16Ki` (1,024s); `M` and `Mi` likewise.
impl FromStr for Tokens {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let bad = || CoreError::BadTokens {
            text: text.to_owned(),
        };
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let factor: u64 = match suffix {
            "" => 1,
            "k" | "K" => 1_000,
            "Ki" => 1 << 10,
            "M" => 1_000_000,
            "Mi" => 1 << 20,
            _ => return Err(bad()),
        };
        let count: u64 = digits.parse().map_err(|_| bad())?;
        count.checked_mul(factor).map(Tokens).ok_or_else(bad)
    }
}

impl Bytes {
    /// `mib` mebibytes; saturates at [`u64::MAX`] bytes.
    pub const fn from_mib(mib: u64) -> Self {
        Bytes(mib.saturating_mul(1 << 20))
    }

    /// The smallest whole number of bytes not below `bytes`; `None` unless finite and in range.
    ///
    /// Formulas with fractional bytes per token round up, so that a prediction never falls short.
    pub fn from_f64_ceil(bytes: f64) -> Option<Self> {
        (bytes >= 0.0 && bytes < u64::MAX as f64).then(|| Bytes(bytes.ceil() as u64))
    }

    /// The count as a float, for formulas. Exact below 2^53 bytes.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// The sum, or `u64::MAX` bytes where it would overflow: more than any device has.
    pub const fn saturating_add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }

    /// The difference, or zero where `other` is larger.
    pub const fn saturating_sub(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }
}

/// Prints binary units with two decimals, so that a request and a budget can be told apart: `1.50 MiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            if self.0 >> shift > 0 {
                return write!(f, "{:.2} {unit}", self.as_f64() / (1u64 << shift) as f64);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl Seconds {
    /// No time at all.
    pub const ZERO: Seconds = Seconds(0.0);

    /// `seconds`, unless it is negative, infinite or not a number.
    pub fn new(seconds: f64) -> Result<Self, CoreError> {
        if seconds.is_finite() && seconds >= 0.0 {
            Ok(Seconds(seconds))
        } else {
            Err(CoreError::BadSeconds { value: seconds })
        }
    }

    /// The value in seconds.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The longer of two durations: that of the slower of two groups.
    pub fn max(self, other: Seconds) -> Seconds {
        Seconds(self.0.max(other.0))
    }
}

impl From<std::time::Duration> for Seconds {
    fn from(duration: std::time::Duration) -> Self {
        Seconds(duration.as_secs_f64())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s >= 1.0 || s == 0.0 => write!(f, "{s:.3} s"),
            s if s >= 1e-3 => write!(f, "{:.3} ms", s * 1e3),
            s => write!(f, "{:.3} us", s * 1e6),
        }
    }
}

impl Speed {
    /// The speed of the device the costs were measured on.
    pub const NOMINAL: Speed = Speed(1.0);

    /// `factor`, unless it is not a positive finite number.
    pub fn new(factor: f64) -> Result<Self, CoreError> {
        if factor.is_finite() && factor > 0.0 {
            Ok(Speed(factor))
        } else {
            Err(CoreError::BadSpeed { value: factor })
        }
    }

    /// The factor; 0.5 takes twice the nominal time.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The slower of two speeds: a group moves at that of its slowest member.
    pub fn min(self, other: Speed) -> Speed {
        Speed(self.0.min(other.0))
    }
}

impl Div<Speed> for Seconds {
    type Output = Seconds;
    fn div(self, speed: Speed) -> Seconds {
        Seconds(self.0 / speed.0)
    }
}

/// The ratio of two durations.
impl Div for Seconds {
    type Output = f64;
    fn div(self, other: Seconds) -> f64 {
        self.0 / other.0
    }
}

impl Mul<f64> for Seconds {
    type Output = Seconds;
    /// Scales a duration. A factor that would make it negative or undefined counts as zero.
    fn mul(self, factor: f64) -> Seconds {
        Seconds((self.0 * factor).max(0.0))
    }
}

/// The time that is left, never below zero.
impl Sub for Seconds {
    type Output = Seconds;
    fn sub(self, other: Seconds) -> Seconds {
        Seconds((self.0 - other.0).max(0.0))
    }
}

macro_rules! additive {
    ($($unit:ident),*) => {$(
        impl Add for $unit {
            type Output = $unit;
            fn add(self, other: $unit) -> $unit {
                $unit(self.0 + other.0)
            }
        }
        impl AddAssign for $unit {
            fn add_assign(&mut self, other: $unit) {
                self.0 += other.0;
            }
        }
        impl Sum for $unit {
            fn sum<I: Iterator<Item = $unit>>(units: I) -> $unit {
                units.fold($unit::default(), |total, unit| total + unit)
            }
        }
    )*};
}
additive!(Tokens, Bytes, Seconds);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_decimal_and_binary_suffixes() {
        for (text, tokens) in [
            ("4096", 4096),
            ("384k", 384_000),
            ("16Ki", 16_384),
            ("1M", 1_000_000),
        ] {
            assert_eq!(text.parse::<Tokens>().unwrap(), Tokens(tokens));
        }
        for text in [
            "",
            "k",
            "12q",
            "-3",
            "1.5k",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert!(text.parse::<Tokens>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn durations_and_speeds_reject_what_is_no_quantity() {
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Seconds::new(value).is_err());
            assert!(Speed::new(value).is_err());
        }
        assert!(Speed::new(0.0).is_err());
        assert_eq!(
            Seconds::new(3.0).unwrap() / Speed::new(0.5).unwrap(),
            Seconds::new(6.0).unwrap()
        );
    }

    #[test]
    fn fractional_bytes_round_up() {
        assert_eq!(Bytes::from_f64_ceil(1.2), Some(Bytes(2)));
        assert_eq!(Bytes::from_f64_ceil(-0.5), None);
        assert_eq!(Bytes::from_f64_ceil(f64::NAN), None);
    }

    #[test]
    fn quantities_print_with_their_unit() {
        assert_eq!(Bytes(1_572_864).to_string(), "1.50 MiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(Seconds::new(0.0123).unwrap().to_string(), "12.300 ms");
    }
}
