//! Durations as they are written.

use std::time::Duration;

/// Reads `10ms`, `1.5s` or `2min`.
///
/// # Errors
///
/// What is wrong with the text: its unit, its number, or a duration that is not above 0.
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
        .map_err(|_| format!("{number:?} is not a number"))?
        * seconds_per_unit;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be above 0".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_positive_number() {
        assert_eq!(duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["10", "ms", "-1s", "0s", "nans", "1h", ""] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}
