//! The lengths of a global batch as files hold them.

use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;
use crate::input;

/// Lengths, and where each was written, so that an error can name it.
pub(crate) struct Lengths {
    pub(crate) tokens: Vec<u64>,
    /// The line of each; `None` where they came as a JSON list.
    lines: Option<Vec<usize>>,
    source: String,
}

impl Lengths {
    /// Reads one length a line, or JSON: a list, or an object with `seq_lens_tokens`. `-` is stdin.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let (bytes, source) = input::read("lengths", path)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("lengths {source} are not text in UTF-8")))?;
        Self::parse(&text, source)
    }

    /// Lengths that no file holds.
    pub(crate) fn drawn(tokens: Vec<u64>, source: String) -> Self {
        Lengths {
            tokens,
            lines: None,
            source,
        }
    }

    fn parse(text: &str, source: String) -> Result<Self, Failure> {
        // A byte-order mark is how some editors say UTF-8.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lengths = match text.trim_start().chars().next() {
            Some('{' | '[') => Self::parse_json(text, source)?,
            _ => Self::parse_lines(text, source)?,
        };
        if lengths.tokens.is_empty() {
            let message = format!(
                "{} holds no length; a batch needs at least one sequence",
                lengths.source
            );
            return Err(Failure::input(message));
        }
        if let Some(index) = lengths.tokens.iter().position(|&tokens| tokens == 0) {
            let message = format!(
                "{}: 0 tokens; every sequence needs at least 1",
                lengths.place(index)
            );
            return Err(Failure::input(message));
        }
        Ok(lengths)
    }

    fn parse_json(text: &str, source: String) -> Result<Self, Failure> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Failure::input(format!("{source} is not valid JSON: {error}")))?;
        let list = match &json {
            Value::Array(list) => list,
            _ => json
                .get("seq_lens_tokens")
                .and_then(Value::as_array)
                .ok_or_else(|| {
                    Failure::input(format!(
                        "{source} has no list seq_lens_tokens; lengths are expected there"
                    ))
                })?,
        };
        let length = |(index, value): (usize, &Value)| {
            value
                .as_u64()
                .ok_or_else(|| no_length(&format!("{source}, index {index}"), &value.to_string()))
        };
        let tokens = list
            .iter()
            .enumerate()
            .map(length)
            .collect::<Result<_, _>>()?;
        Ok(Lengths {
            tokens,
            lines: None,
            source,
        })
    }

    fn parse_lines(text: &str, source: String) -> Result<Self, Failure> {
        let (mut tokens, mut lines) = (Vec::new(), Vec::new());
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() {
                continue;
            }
            let length = content.parse();
            let length = length.map_err(|_| no_length(&format!("{source}, line {line}"), content));
            tokens.push(length?);
            lines.push(line);
        }
        Ok(Lengths {
            tokens,
            lines: Some(lines),
            source,
        })
    }

    /// Where a length was written.
    pub(crate) fn place(&self, index: usize) -> String {
        match self.lines.as_ref().and_then(|lines| lines.get(index)) {
            Some(line) => format!("{}, line {line}", self.source),
            None => format!("{}, index {index}", self.source),
        }
    }
}

/// The most of a file's text that an error repeats, in characters.
const SHOWN: usize = 40;

/// The failure of something that stands where a length should.
fn no_length(place: &str, written: &str) -> Failure {
    let shown = match written.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &written[..end]),
        None => written.to_owned(),
    };
    let failure = Failure::input(format!(
        "{place}: {shown} is not a length; lengths are whole numbers of tokens from 1 to {}",
        u64::MAX
    ));
    let is_list = |separator| {
        let mut parts = written
            .split(separator)
            .filter(|part| !part.trim().is_empty());
        written.contains(separator) && parts.all(|part| part.trim().parse::<u64>().is_ok())
    };
    if [' ', '\t', ',', ';'].into_iter().any(is_list) {
        return failure.hint("write one length a line, or a JSON list");
    }
    match written.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && (1.0..1e15).contains(&number) => {
            failure.hint(format!("write {number:.0}"))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<u64>, String> {
        let lengths = Lengths::parse(text, "in".to_owned());
        lengths
            .map(|lengths| lengths.tokens)
            .map_err(|failure| failure.message().to_owned())
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
            assert_eq!(no_length("in", written).advice(), hint, "{written}");
        }
        let long = no_length("in", &"é".repeat(1000));
        assert!(long.message().starts_with("in: éé") && long.message().len() < 200);
    }
}
