//! Words of messages: text and numbers from outside as an error repeats them, and counts with their noun.

use std::fmt;

/// The most of a text from outside that a message repeats, in characters.
const MOST: usize = 60;

/// The longest line of a message, in characters.
const LONGEST_LINE: usize = 2000;

/// A text from outside as a message repeats it: on one line, cut where it is long, and without characters that a
/// terminal would act on.
///
/// ```
/// use lengthwise_core::words::shown;
/// assert_eq!(shown("red \u{1b}[31m").to_string(), "red \\u{1b}[31m");
/// assert_eq!(shown(&"9".repeat(301)).to_string().chars().count(), 60);
/// ```
pub fn shown(text: &str) -> impl fmt::Display {
    let words: Vec<&str> = text.split_whitespace().collect();
    written_out(&words.join(" "), MOST)
}

/// A whole message that may repeat text from outside: characters that a terminal would act on are written out, and what is
/// beyond all measure is cut. Lines stay lines.
///
/// ```
/// use lengthwise_core::words::harmless;
/// assert_eq!(harmless("a\n\u{7}b"), "a\n\\u{7}b");
/// ```
pub fn harmless(message: &str) -> String {
    let lines = message
        .split('\n')
        .map(|line| written_out(line, LONGEST_LINE));
    lines.collect::<Vec<_>>().join("\n")
}

/// A line with its harmful characters written out, of at most so many characters as it is written: one may take eight.
fn written_out(line: &str, most: usize) -> String {
    let mut written = String::new();
    // What is kept if more follows than there is room for: one less, for the mark of the cut.
    let (mut length, mut kept) = (0, 0);
    for character in line.chars() {
        let piece = match character {
            '\t' => " ".to_owned(),
            _ if is_harmful(character) => character.escape_unicode().to_string(),
            _ => character.to_string(),
        };
        length += piece.chars().count();
        written.push_str(&piece);
        if length < most {
            kept = written.len();
        } else if length > most {
            written.truncate(kept);
            written.push('…');
            break;
        }
    }
    written
}

/// Whether a terminal would act on it: a control character, or one that turns the direction of writing.
fn is_harmful(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

/// A number as a message repeats it: with an exponent where it has more than 15 digits otherwise.
///
/// ```
/// use lengthwise_core::words::figure;
/// assert_eq!(figure(1e308).to_string(), "1e308");
/// assert_eq!(figure(0.25).to_string(), "0.25");
/// ```
pub fn figure(value: f64) -> Figure {
    Figure(value)
}

/// A number, to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure(value) = *self;
        let size = value.abs();
        if value.is_finite() && size != 0.0 && !(1e-5..1e15).contains(&size) {
            write!(f, "{value:e}")
        } else {
            write!(f, "{value}")
        }
    }
}

/// `1 group`, `2 groups`: a count with its noun.
///
/// ```
/// use lengthwise_core::words::counted;
/// assert_eq!(counted(1, "rank"), "1 rank");
/// assert_eq!(counted(8, "rank"), "8 ranks");
/// assert_eq!(counted(0, "micro-batch"), "0 micro-batches");
/// ```
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = match count {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_by_characters() {
        let text = shown(&"é".repeat(1000)).to_string();
        assert_eq!(text.chars().count(), MOST);
        assert!(text.ends_with("é…"));
        let message = harmless(&format!("first\n{}", "x".repeat(200_000)));
        assert_eq!(message.lines().count(), 2);
        assert_eq!(message.chars().count(), "first\n".len() + LONGEST_LINE);
    }

    #[test]
    fn what_counts_is_how_it_is_written() {
        for (character, piece) in [('\0', "\\u{0}"), ('\u{202e}', "\\u{202e}")] {
            let text = character.to_string().repeat(LONGEST_LINE);
            let whole = LONGEST_LINE / piece.len();
            for (cut, most) in [
                (harmless(&text), LONGEST_LINE),
                (shown(&text).to_string(), MOST),
            ] {
                assert!(cut.chars().count() <= most, "{cut}");
                assert!(cut.ends_with(&format!("{piece}…")), "{cut}");
            }
            let fits = character.to_string().repeat(whole);
            assert_eq!(harmless(&fits), piece.repeat(whole));
        }
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        let all: String = (0..=0x9f).filter_map(char::from_u32).collect();
        let written = harmless(&format!("{all}\u{202e}abc"));
        assert!(!written.chars().any(|c| c != '\n' && is_harmful(c)));
        assert!(written.ends_with("\\u{202e}abc"));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (123456.75, "123456.75"),
        ] {
            assert_eq!(figure(value).to_string(), text);
        }
    }
}
