//! Figures as people read them: few digits and a unit.

/// `1.23 s`, `45.6 ms`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds.abs() {
        s if s >= 1.0 || s == 0.0 => format!("{} s", digits(seconds)),
        s if s >= 1e-3 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} µs", digits(seconds * 1e6)),
    }
}

/// `12.3 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [(&str, f64); 4] = [
        ("TiB", 1099511627776.0),
        ("GiB", 1073741824.0),
        ("MiB", 1048576.0),
        ("KiB", 1024.0),
    ];
    match UNITS.iter().find(|&&(_, unit)| bytes >= unit) {
        Some((name, unit)) => format!("{} {name}", digits(bytes / unit)),
        None => format!("{bytes:.0} B"),
    }
}

/// `12.3 %`.
pub(super) fn percent(part: f64) -> String {
    format!("{} %", digits(part * 100.0))
}

/// A count with its thousands apart: `1,234,567`.
pub(super) fn count(number: f64) -> String {
    let text = format!("{:.0}", number.abs());
    let mut grouped = String::from(if number < -0.5 { "-" } else { "" });
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && (text.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 step`, `2 steps`.
pub(super) fn counted(number: f64, noun: &str) -> String {
    let plural = if number == 1.0 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Three digits, or all before the point.
pub(super) fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 99.95 => count(number),
        n if n >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits_and_a_unit() {
        assert_eq!(seconds(3.5281), "3.53 s");
        assert_eq!(seconds(0.0), "0.00 s");
        assert_eq!(seconds(1234.5), "1,234 s");
        assert_eq!(seconds(0.01434), "14.3 ms");
        assert_eq!(seconds(0.000002), "2.00 µs");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(bytes(3e10), "27.9 GiB");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(percent(0.0322), "3.22 %");
        assert_eq!(count(1234567.0), "1,234,567");
        assert_eq!(count(-1234.0), "-1,234");
        assert_eq!(counted(1.0, "step"), "1 step");
        assert_eq!(counted(1000.0, "step"), "1,000 steps");
    }
}
