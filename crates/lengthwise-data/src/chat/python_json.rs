//! JSON as Python writes it, for templates that print tools.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Deeper values are refused.
const MOST_DEPTH: usize = 200;

/// The options of `json.dumps`.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub ensure_ascii: bool,
    /// The indentation of each line, per level.
    pub indent: Option<String>,
    /// Between items, and between key and value.
    pub separators: Option<Vec<String>>,
    pub sort_keys: bool,
}

/// An indent, which is a number of spaces or the indent itself.
pub(crate) fn indent(value: Option<&Value>) -> Result<Option<String>, Error> {
    const MOST: usize = 100;
    let Some(value) = value.filter(|value| !value.is_none() && !value.is_undefined()) else {
        return Ok(None);
    };
    match (value.as_str(), usize::try_from(value.clone())) {
        (Some(text), _) if text.len() <= MOST => Ok(Some(text.to_owned())),
        (_, Ok(num)) if num <= MOST => Ok(Some(" ".repeat(num))),
        _ => Err(refused(format!(
            "an indent of JSON must be at most {MOST} spaces"
        ))),
    }
}

/// The JSON of a value.
pub(crate) fn dumps(value: &Value, options: &Options) -> Result<String, Error> {
    let [item, key] = match options.separators.as_deref() {
        Some([item, key]) => [item.as_str(), key.as_str()],
        Some(_) => return Err(refused("separators of JSON are two".to_owned())),
        None if options.indent.is_some() => [",", ": "],
        None => [", ", ": "],
    };
    let mut writer = Writer {
        text: String::new(),
        options,
        item,
        key,
    };
    writer.value(value, 0)?;
    Ok(writer.text)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

struct Writer<'a> {
    text: String,
    options: &'a Options,
    item: &'a str,
    key: &'a str,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MOST_DEPTH {
            return Err(refused("a value is too deep for JSON".to_owned()));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    pairs.push((key.to_string(), item));
                }
                if self.options.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.items(['{', '}'], pairs, depth, |writer, (key, item)| {
                    writer.string(&key);
                    writer.text.push_str(writer.key);
                    writer.value(&item, depth + 1)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect();
                self.items(['[', ']'], items, depth, |writer, item| {
                    writer.value(&item, depth + 1)
                })?;
            }
            kind => return Err(refused(format!("{kind} has no JSON"))),
        }
        Ok(())
    }

    fn items<T>(
        &mut self,
        [open, close]: [char; 2],
        items: Vec<T>,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        let is_empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(self.item);
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.options.indent {
            self.text.push('\n');
            self.text
                .extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            self.text.push_str(&value.to_string());
        } else if let Ok(number) = f64::try_from(value.clone()) {
            self.text.push_str(&float(number));
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for character in string.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                ' '..='~' => self.text.push(character),
                '\u{7f}'.. if !self.options.ensure_ascii => self.text.push(character),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a string can't fail.
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
            }
        }
        self.text.push('"');
    }
}

/// A number as Python prints it: the shortest digits that give it again.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = number.to_string();
    match text.contains('.') {
        true => text,
        false => text + ".0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(json: &str, options: &Options) -> String {
        dumps(&serde_json::from_str(json).unwrap(), options).unwrap()
    }

    #[test]
    fn json_is_that_of_python() {
        // The output of python3 for json.dumps(json.loads(text), ensure_ascii=False).
        let text = r#"{"b": [1, 2.5, -0.0, 1e-5, 1e16, 123456789012345680.0, true, null, []], "a": {}, "é": "\u007f\u0001\"\\/<&'\n"}"#;
        assert_eq!(
            dump(text, &Options::default()),
            "{\"b\": [1, 2.5, -0.0, 1e-05, 1e+16, 1.2345678901234568e+17, true, null, []], \"a\": {}, \"é\": \
             \"\u{7f}\\u0001\\\"\\\\/<&'\\n\"}"
        );
        let sorted = Options {
            sort_keys: true,
            ensure_ascii: true,
            indent: Some("  ".to_owned()),
            separators: None,
        };
        assert_eq!(
            dump(r#"{"b": [1, {}], "a": "é😀"}"#, &sorted),
            "{\n  \"a\": \"\\u00e9\\ud83d\\ude00\",\n  \"b\": [\n    1,\n    {}\n  ]\n}"
        );
    }
}
