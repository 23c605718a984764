//! The lengths of a global batch as files hold them.

use std::path::Path;

use lengthwise_core::Tokens;
use lengthwise_core::limits::{BATCH_SEQUENCES, SEQ_LEN};
use serde_json::Value;

use crate::{InputError, source};

/// Lengths, and where each was written, so that an error can name it.
#[derive(Clone, Debug)]
pub struct Lengths {
    seq_lens: Vec<Tokens>,
    /// The line of each; `None` where they came as a JSON list.
    lines: Option<Vec<usize>>,
    name: String,
}

impl Lengths {
    /// Reads one length a line, or JSON: a list, or an object with `seq_lens_tokens`. `-` is stdin.
    ///
    /// # Errors
    ///
    /// The part that can't be read, or the line or index of what is no length.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let (bytes, name) = source::read("lengths", path)?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text, name),
            Err(_) => Err(InputError::LengthsNotText { name }),
        }
    }

    /// Lengths that no file holds, and what errors call them.
    pub fn drawn(seq_lens: Vec<Tokens>, name: impl Into<String>) -> Self {
        Lengths {
            seq_lens,
            lines: None,
            name: name.into(),
        }
    }

    /// The lengths in their order.
    pub fn seq_lens(&self) -> &[Tokens] {
        &self.seq_lens
    }

    /// Their name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a length was written.
    pub fn place(&self, index: usize) -> String {
        match self.lines.as_ref().and_then(|lines| lines.get(index)) {
            Some(line) => format!("{}, line {line}", self.name),
            None => format!("{}, index {index}", self.name),
        }
    }

    fn parse(text: &str, name: String) -> Result<Self, InputError> {
        // A byte-order mark is how some editors say UTF-8.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lengths = match text.trim_start().chars().next() {
            Some('{' | '[') => Self::parse_json(text, name)?,
            _ => Self::parse_lines(text, name)?,
        };
        if lengths.seq_lens.is_empty() {
            return Err(InputError::NoLengths { name: lengths.name });
        }
        lengths.checked()
    }

    /// The same lengths, unless they are too many, or one of them is none that a sequence may have.
    pub(crate) fn checked(self) -> Result<Self, InputError> {
        if self.seq_lens.len() as u64 > BATCH_SEQUENCES.most {
            return Err(InputError::TooManyLengths {
                num: self.seq_lens.len(),
                name: self.name,
            });
        }
        let allowed = |len: &Tokens| SEQ_LEN.holds(len.0);
        let mut bad = self.seq_lens.iter().copied().enumerate();
        match bad.find(|(_, len)| !allowed(len)) {
            Some((index, Tokens(0))) => Err(InputError::EmptySequence {
                place: self.place(index),
            }),
            Some((index, len)) => Err(InputError::NotALength {
                place: self.place(index),
                written: len.to_string(),
            }),
            None => Ok(self),
        }
    }

    fn parse_json(text: &str, name: String) -> Result<Self, InputError> {
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(error) => return Err(InputError::LengthsNotJson { name, error }),
        };
        let list = match &json {
            Value::Array(list) => Some(list),
            _ => json.get("seq_lens_tokens").and_then(Value::as_array),
        };
        let Some(list) = list else {
            return Err(InputError::NoLengthList { name });
        };
        let length = |(index, value): (usize, &Value)| {
            let no_length = || InputError::NotALength {
                place: format!("{name}, index {index}"),
                written: value.to_string(),
            };
            value.as_u64().map(Tokens).ok_or_else(no_length)
        };
        let seq_lens = list.iter().enumerate().map(length);
        Ok(Lengths {
            seq_lens: seq_lens.collect::<Result<_, _>>()?,
            lines: None,
            name,
        })
    }

    fn parse_lines(text: &str, name: String) -> Result<Self, InputError> {
        let (mut seq_lens, mut lines) = (Vec::new(), Vec::new());
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() {
                continue;
            }
            let length = content.parse().map_err(|_| InputError::NotALength {
                place: format!("{name}, line {line}"),
                written: content.to_owned(),
            });
            seq_lens.push(Tokens(length?));
            lines.push(line);
        }
        Ok(Lengths {
            seq_lens,
            lines: Some(lines),
            name,
        })
    }
}

/// How what was written instead of a length was probably meant.
pub(crate) fn hint_for_length(written: &str) -> Option<String> {
    let is_list = |separator| {
        let mut parts = written
            .split(separator)
            .filter(|part| !part.trim().is_empty());
        written.contains(separator) && parts.all(|part| part.trim().parse::<u64>().is_ok())
    };
    if [' ', '\t', ',', ';'].into_iter().any(is_list) {
        return Some("write one length a line, or a JSON list".to_owned());
    }
    let number = written.parse::<f64>().ok()?;
    (number.fract() == 0.0 && (1.0..1e15).contains(&number)).then(|| format!("write {number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<u64>, String> {
        let lengths = Lengths::parse(text, "in".to_owned());
        lengths
            .map(|lengths| lengths.seq_lens.iter().map(|len| len.0).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lines_and_json_give_the_same_lengths() {
        for text in [
            "3\n5\n",
            " 3\r\n\n5",
            "\u{feff}3\r\n5\r\n",
            "\u{feff}[3,\r\n5]",
            "[3, 5]",
            "{\"seq_lens_tokens\": [3, 5], \"x\": 1}",
        ] {
            assert_eq!(parse(text), Ok(vec![3, 5]), "{text:?}");
        }
    }

    #[test]
    fn bad_lengths_are_named_by_line_or_index() {
        for (text, complaint) in [
            ("", "in holds no length"),
            ("[]", "in holds no length"),
            ("3\nx\n", "in, line 2: x is not a length; lengths are"),
            ("3\n-4\n", "in, line 2: -4 is not"),
            ("3\n\n0\n", "in, line 3: 0 tokens"),
            (
                "3\n18446744073709551616",
                "in, line 2: 18446744073709551616 is not",
            ),
            ("[3, 1.5]", "in, index 1: 1.5 is not"),
            ("[3, [4]]", "in, index 1: [4] is not"),
            ("[3, 0]", "in, index 1: 0 tokens"),
            ("{\"lens\": [1]}", "in has no list seq_lens_tokens"),
            ("{", "in is not valid JSON"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(complaint), "{message}");
        }
    }

    #[test]
    fn hints_say_how_to_write_what_was_meant() {
        for (written, hint) in [
            ("1e3", Some("write 1000")),
            ("1000.0", Some("write 1000")),
            ("1 2 3", Some("write one length a line, or a JSON list")),
            ("1,2", Some("write one length a line, or a JSON list")),
            ("1.5", None),
            ("1e300", None),
            ("x y", None),
        ] {
            assert_eq!(hint_for_length(written).as_deref(), hint, "{written}");
        }
        let long = parse(&"é".repeat(1000)).unwrap_err();
        assert!(long.starts_with("in, line 1: éé") && long.chars().count() < 200);
    }
}
