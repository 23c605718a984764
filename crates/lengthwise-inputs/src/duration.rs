//! Durations as they are written.

use std::time::Duration;

use lengthwise_core::limits::{DURATION_S, is_waitable};
use lengthwise_core::words::shown;

/// Reads `10ms`, `1.5s` or `2min`.
///
/// # Errors
///
/// The fault in the text: its unit, its number, or a duration that is not above 0.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        _ => return Err("write it with a unit: us, ms, s or min".to_owned()),
    };
    let seconds = number
        .trim()
        .parse::<f64>()
        .map_err(|_| format!("\"{}\" is not a number", shown(number)))?
        * seconds_per_unit;
    let duration = Duration::try_from_secs_f64(seconds).ok();
    let duration = duration.filter(|&duration| is_waitable(duration.into()));
    duration.ok_or_else(|| {
        let days = DURATION_S / 86_400.0;
        format!("it must be above 0 and at most {days} days")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_positive_number() {
        assert_eq!(duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in [
            "10",
            "ms",
            "-1s",
            "0s",
            "nans",
            "1h",
            "",
            "1e300s",
            "31000000s",
        ] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}
