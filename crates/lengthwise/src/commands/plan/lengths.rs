//! The lengths of a global batch as files hold them.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

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
        let is_stdin = path.as_os_str() == "-";
        let source = if is_stdin {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        let mut bytes = Vec::new();
        let read = if is_stdin {
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
        } else {
            std::fs::read(path).map(|content| bytes = content)
        };
        read.map_err(|error| Failure::input(format!("lengths {source} can't be read: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("lengths {source} are not text")))?;
        Self::parse(&text, source)
    }

    fn parse(text: &str, source: String) -> Result<Self, Failure> {
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
                "{} is 0; every sequence needs at least 1 token",
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
            value.as_u64().ok_or_else(|| {
                let message = format!("{source}, index {index}: {value} is not a number of tokens");
                Failure::input(message)
            })
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
            let length = content.parse().map_err(|_| {
                let message =
                    format!("{source}, line {line}: {content:?} is not a number of tokens");
                Failure::input(message)
            })?;
            tokens.push(length);
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
            ("3\nx\n", "in, line 2: \"x\" is not a number of tokens"),
            ("3\n-4\n", "in, line 2: \"-4\" is not"),
            ("3\n\n0\n", "in, line 3 is 0"),
            ("[3, 1.5]", "in, index 1: 1.5 is not"),
            ("[3, 0]", "in, index 1 is 0"),
            ("{\"lens\": [1]}", "in has no list seq_lens_tokens"),
            ("{", "in is not valid JSON"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(complaint), "{message}");
        }
    }
}
