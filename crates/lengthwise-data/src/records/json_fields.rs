//! The wanted fields of a JSON object.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Fields;
use super::record::{Chat, Content};

/// The text of a line that begins an object, without its end; or what is wrong with it. Parsers would take a list for fields
/// in their order, and look at no strings but those that they need.
pub(crate) fn object_text(line: &[u8]) -> Result<&str, String> {
    let line = str::from_utf8(line)
        .map_err(|error| format!("byte {} of the line is not UTF-8", error.valid_up_to() + 1))?;
    if !line.trim_ascii_start().starts_with('{') {
        return Err("this is no JSON object".to_owned());
    }
    // An error at the end of a torn line has a column of that line.
    Ok(line.trim_ascii_end())
}

/// The content that a line holds; or what is wrong with it.
pub(crate) fn content(fields: &Fields, line: &[u8]) -> Result<Content, String> {
    // Columns of errors are those of the line.
    let line = object_text(line)?;
    let names = fields.names();
    let mut parser = serde_json::Deserializer::from_str(line);
    let found = Wanted(&names)
        .deserialize(&mut parser)
        .and_then(|found| parser.end().map(|()| found))
        .map_err(|error| format!("{} (column {})", said(&error), error.column()))?;
    let field = |index: usize| match (names[index], found[index]) {
        (Some(name), Some(raw)) => Ok((name, raw.get())),
        (name, _) => Err(format!("there is no field `{}`", name.unwrap_or_default())),
    };
    Ok(match fields {
        Fields::Text(_) => Content::Text(string(field(0)?)?.into_bytes()),
        Fields::Completion { .. } => match (field(0)?, field(1)?) {
            (prompt, completion) if is_list(prompt) && is_list(completion) => Chat::continued(
                Chat::list_from_json("messages of the prompt", prompt.1)?,
                Chat::list_from_json("messages of the completion", completion.1)?,
            )?,
            (prompt, completion) => Content::Completion {
                prompt: string(prompt)?,
                completion: string(completion)?,
            },
        },
        Fields::Messages { .. } => {
            let messages = list(field(0)?)?;
            let tools = field(1).ok().filter(|&(_, raw)| raw != "null");
            let tools = tools.map(list).transpose()?;
            Content::Messages(Chat::from_json(&messages, tools.as_deref())?)
        }
    })
}

/// The text of a JSON string.
fn string((name, raw): (&str, &str)) -> Result<String, String> {
    if !raw.starts_with('"') {
        return Err(format!("`{name}` is {}, not a string", kind(raw)));
    }
    serde_json::from_str(raw).map_err(|error| format!("`{name}`: {}", said(&error)))
}

/// Returns the parser's message, without the line, which it counts from the start of its input.
fn said(error: &serde_json::Error) -> String {
    let reason = error.to_string();
    reason
        .split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A list in JSON, which may be inside a string, as tables store it.
fn list<'a>((name, raw): (&str, &'a str)) -> Result<Cow<'a, str>, String> {
    match raw.as_bytes().first() {
        Some(b'[') => Ok(Cow::Borrowed(raw)),
        Some(b'"') => string((name, raw)).map(Cow::Owned),
        _ => Err(format!("`{name}` is {}, not a list", kind(raw))),
    }
}

fn is_list((_, raw): (&str, &str)) -> bool {
    raw.starts_with('[')
}

/// Returns the kind of a JSON value, in words.
fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Finds the fields of these names, and checks the syntax of all others.
struct Wanted<'n>(&'n [Option<&'n str>; 2]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = [Option<&'de RawValue>; 2];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = [Option<&'de RawValue>; 2];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; 2];
        while let Some(index) = map.next_key_seed(Key(self.0))? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if found[index].is_some() {
                let name = self.0[index].unwrap_or_default();
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
            found[index] = Some(map.next_value()?);
        }
        Ok(found)
    }
}

/// Which of the names a key is.
struct Key<'n>(&'n [Option<&'n str>; 2]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|&name| name == Some(key)))
    }
}
