//! The keys of a JSON object, taken out one by one, so that what is left was not understood.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::Value;

use super::ConfigError;

/// The keys of an object that have not been taken yet.
#[derive(Debug)]
pub struct Fields {
    values: BTreeMap<String, Value>,
    /// Stands before each key in errors: the object's own key and a dot, or nothing.
    prefix: String,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if values.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} is given twice")));
                    }
                }
                Ok(Fields {
                    values,
                    prefix: String::new(),
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Fields {
    /// The keys of the object at `key`, if there is one.
    pub fn object(&mut self, key: &str) -> Result<Option<Fields>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Fields {
                values: values.into_iter().collect(),
                prefix: format!("{}{key}.", self.prefix),
            })),
            Some(value) => Err(self.bad(key, &value, "it must be an object")),
        }
    }

    /// The value of a key; none where it is `null`.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// Takes away all keys of a kind.
    pub fn forget(&mut self, is_of_kind: impl Fn(&str) -> bool) {
        self.values.retain(|key, _| !is_of_kind(key));
    }

    /// Whether a key is there, be it `null`.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A whole number.
    pub fn whole(&mut self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.read(key, "it must be a whole number, 0 or more", Value::as_u64)
    }

    /// A whole number of which the model has at least one.
    pub fn size(&mut self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.read(key, "it must be a whole number, 1 or more", |value| {
            let size = usize::try_from(value.as_u64()?).ok()?;
            (size > 0).then_some(size)
        })
    }

    /// A whole number that must be there.
    pub fn required_size(&mut self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number above 0.
    pub fn positive(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.read(key, "it must be a number above 0", |value| {
            value.as_f64().filter(|&number| number > 0.0)
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.read(key, "it must be true or false", Value::as_bool)
    }

    /// A string.
    pub fn text(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        self.read(key, "it must be a string", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// A list of strings.
    pub fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        self.read(key, "it must be a list of strings", |value| {
            let texts = value.as_array()?.iter();
            texts
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })
    }

    /// The first key that is left.
    pub fn first_left(&self) -> Option<(&str, &Value)> {
        let left = self.values.iter().find(|(_, value)| !value.is_null());
        left.map(|(key, value)| (key.as_str(), value))
    }

    /// The error that a key is left which nothing has asked for.
    pub fn unknown(&self, key: &str, value: &Value) -> ConfigError {
        ConfigError::Unknown {
            key: format!("{}{key}", self.prefix),
            value: shorten(value),
        }
    }

    /// The error that a key must be there.
    pub fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing {
            key: format!("{}{key}", self.prefix),
        }
    }

    /// The error that a value breaks a rule.
    pub fn bad(&self, key: &str, value: &Value, rule: impl Into<String>) -> ConfigError {
        ConfigError::Bad {
            key: format!("{}{key}", self.prefix),
            value: shorten(value),
            rule: rule.into(),
        }
    }

    fn read<T>(
        &mut self,
        key: &str,
        rule: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.bad(key, &value, rule)),
        }
    }
}

/// At most 60 characters of a value.
fn shorten(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}
