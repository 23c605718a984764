//! What a setting may hold, read from a file or from text.

use std::path::PathBuf;

use lengthwise_core::{Degree, Tokens};
use lengthwise_data::records::CorruptRows;
use lengthwise_data::{Overlong, SpecialTokens};
use lengthwise_inputs::{ActivationChoices, StrategyFamilies};
use lengthwise_plan::PlannerKind;
use lengthwise_train::WeightType;
use toml::de::DeValue;

use super::train::ScheduleName;

/// A value as the user wrote it.
pub enum Written<'a> {
    /// In a file.
    Toml(&'a DeValue<'a>),
    /// On the command line or in the environment.
    Text(&'a str),
}

/// A type of setting.
pub trait Value: Sized {
    /// What has to be written, after "it must be".
    const EXPECTED: &'static str;

    /// Something that may be written.
    const EXAMPLE: &'static str;

    /// The value, unless what is written is none.
    fn read(written: Written<'_>) -> Option<Self>;

    /// The value as a settings file writes it.
    fn show(&self) -> String;
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Value for $number {
            const EXPECTED: &'static str = "a whole number, 0 or more";
            const EXAMPLE: &'static str = "8";

            fn read(written: Written<'_>) -> Option<Self> {
                match written {
                    Written::Toml(value) => {
                        let integer = value.as_integer()?;
                        <$number>::from_str_radix(integer.as_str(), integer.radix()).ok()
                    }
                    Written::Text(text) => text.replace('_', "").parse().ok(),
                }
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_numbers!(u32, u64, usize);

impl Value for f64 {
    const EXPECTED: &'static str = "a number";
    const EXAMPLE: &'static str = "0.1";

    fn read(written: Written<'_>) -> Option<Self> {
        let number: f64 = match written {
            Written::Toml(DeValue::Integer(integer)) if integer.radix() == 10 => {
                integer.as_str().parse().ok()?
            }
            Written::Toml(value) => value.as_float()?.as_str().parse().ok()?,
            Written::Text(text) => text.parse().ok()?,
        };
        number.is_finite().then_some(number)
    }

    fn show(&self) -> String {
        if *self != 0.0 && !(1e-3..1e15).contains(&self.abs()) {
            format!("{self:e}")
        } else {
            self.to_string()
        }
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    const EXAMPLE: &'static str = "true";

    fn read(written: Written<'_>) -> Option<Self> {
        match written {
            Written::Toml(value) => value.as_bool(),
            Written::Text(text) => text.parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a string";
    const EXAMPLE: &'static str = r#""text""#;

    fn read(written: Written<'_>) -> Option<Self> {
        match written {
            Written::Toml(value) => value.as_str().map(str::to_owned),
            Written::Text(text) => Some(text.to_owned()),
        }
    }

    fn show(&self) -> String {
        toml::Value::from(self.as_str()).to_string()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path in quotes that is not empty";
    const EXAMPLE: &'static str = r#""runs/metrics.jsonl""#;

    fn read(written: Written<'_>) -> Option<Self> {
        String::read(written)
            .filter(|path| !path.is_empty())
            .map(Self::from)
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned().show()
    }
}

/// Reads names like those on the command line, in a file as strings.
macro_rules! named {
    ($type:ty, $expected:literal, $example:literal) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;

            fn read(written: Written<'_>) -> Option<Self> {
                String::read(written)?.parse().ok()
            }

            fn show(&self) -> String {
                self.to_string().show()
            }
        }
    };
}
named!(Overlong, r#""split", "truncate" or "skip""#, r#""split""#);
named!(SpecialTokens, r#""recognise" or "text""#, r#""recognise""#);
named!(CorruptRows, r#""error" or "skip""#, r#""skip""#);
impl Value for WeightType {
    const EXPECTED: &'static str = r#""f32" or "bf16""#;
    const EXAMPLE: &'static str = r#""bf16""#;

    fn read(written: Written<'_>) -> Option<Self> {
        let name = String::read(written)?;
        let types = [WeightType::F32, WeightType::Bf16];
        types.into_iter().find(|one| one.name() == name)
    }

    fn show(&self) -> String {
        self.name().to_owned().show()
    }
}
named!(
    ScheduleName,
    r#""constant", "cosine", "linear" or "wsd""#,
    r#""cosine""#
);
named!(PlannerKind, "the name of a planner", r#""adaptive""#);

impl Value for Tokens {
    const EXPECTED: &'static str = "a number of tokens";
    const EXAMPLE: &'static str = r#"65536, "64Ki" (of 1024) or "64k" (of 1000)"#;

    fn read(written: Written<'_>) -> Option<Self> {
        match written {
            Written::Toml(value) if value.is_integer() => u64::read(written).map(Tokens),
            Written::Toml(value) => value.as_str()?.parse().ok(),
            Written::Text(text) => text.replace('_', "").parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Degree {
    const EXPECTED: &'static str = "a whole number, 1 or more";
    const EXAMPLE: &'static str = "8";

    fn read(written: Written<'_>) -> Option<Self> {
        Degree::new(u32::read(written)?).ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A list; as text its members are separated by commas, and brackets and quotes may be left out.
macro_rules! list {
    ($type:ty, $expected:literal, $example:literal) => {
        impl Value for Vec<$type> {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;

            fn read(written: Written<'_>) -> Option<Self> {
                match written {
                    Written::Toml(value) => value
                        .as_array()?
                        .iter()
                        .map(|one| <$type>::read(Written::Toml(one.get_ref())))
                        .collect(),
                    Written::Text(text) => text
                        .trim()
                        .trim_start_matches('[')
                        .trim_end_matches(']')
                        .split_terminator(',')
                        .map(|one| <$type>::read(Written::Text(one.trim().trim_matches('"'))))
                        .collect(),
                }
            }

            fn show(&self) -> String {
                let members: Vec<String> = self.iter().map(Value::show).collect();
                format!("[{}]", members.join(", "))
            }
        }
    };
}
list!(String, "a list of strings", r#"["rs", "md"]"#);
list!(PathBuf, "a list of paths", r#"["corpus", "notes.txt"]"#);
list!(
    Degree,
    "a list of whole numbers, 1 or more each",
    "[1, 2, 4]"
);
list!(u64, "a list of whole numbers", "[2, 3]");
list!(f64, "a list of numbers", "[0.9, 0.95]");

/// Choices, in a file as a string with commas between them or as a list of strings.
macro_rules! choices {
    ($type:ty, $expected:literal, $example:literal) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;

            fn read(written: Written<'_>) -> Option<Self> {
                let names = match written {
                    Written::Toml(value) if value.is_array() => {
                        <Vec<String>>::read(written)?.join(",")
                    }
                    written => String::read(written)?,
                };
                names.parse().ok()
            }

            fn show(&self) -> String {
                self.to_string().show()
            }
        }
    };
}
choices!(
    StrategyFamilies,
    r#""ulysses", "ring", "hybrid", several of them with commas between, or "all""#,
    r#""ulysses,ring""#
);
choices!(
    ActivationChoices,
    r#""keep", "recompute", "host", several of them with commas between, or "all""#,
    r#""keep,recompute""#
);

/// A bound on the norm of the gradient, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipNorm(pub Option<f64>);

impl Value for ClipNorm {
    const EXPECTED: &'static str = r#"a number, or "none""#;
    const EXAMPLE: &'static str = "1.0";

    fn read(written: Written<'_>) -> Option<Self> {
        match written {
            Written::Toml(DeValue::String(text)) if text == "none" => Some(ClipNorm(None)),
            Written::Text("none") => Some(ClipNorm(None)),
            written => f64::read(written).map(|norm| ClipNorm(Some(norm))),
        }
    }

    fn show(&self) -> String {
        match self.0 {
            Some(norm) => norm.show(),
            None => "none".to_owned().show(),
        }
    }
}
