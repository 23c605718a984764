//! Figures for tables to read.

pub use lengthwise_core::words::counted;

/// Three digits and a unit, for a narrow column.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 || s == 0.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    three_digits(value, unit)
}

/// The same for memory.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|&&(_, shift)| bytes >> shift > 0) {
        Some(&(unit, shift)) => three_digits(bytes as f64 / (1u64 << shift) as f64, unit),
        None => format!("{bytes} B"),
    }
}

/// `1,234 documents`, `1 document`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Thousands apart: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three_digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (time, text) in [
            (0.0, "0.00 s"),
            (2.9228, "2.92 s"),
            (99.96, "100 s"),
            (0.01434, "14.3 ms"),
            (0.00000012, "0.12 us"),
        ] {
            assert_eq!(seconds(time), text);
        }
    }

    #[test]
    fn memory_has_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (1003 << 20, "1003 MiB"),
            (28 << 30, "28.0 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
