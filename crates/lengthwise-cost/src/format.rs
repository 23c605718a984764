//! The version of Lengthwise's files, and how they write a strategy.

use lengthwise_core::{Activations, CoreError, Degree, Exchange, Strategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The version of the format in which plans, profiles and metrics are written, 1 until something in it changes its
/// meaning. Files from before there were versions have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatVersion;

impl FormatVersion {
    /// As files write it.
    pub const NUMBER: u32 = 1;

    /// Whether a file says that it is of this version, where it says anything.
    ///
    /// # Errors
    ///
    /// It is of a version that this build does not know.
    pub fn is_current(version: Option<u32>) -> Result<bool, UnknownVersion> {
        match version {
            None => Ok(false),
            Some(Self::NUMBER) => Ok(true),
            Some(version) => Err(UnknownVersion { version }),
        }
    }
}

/// A file of a version that is not known, most likely written by a later build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "version is {version}; this build reads version {}, and files from before there were versions",
    FormatVersion::NUMBER
)]
pub struct UnknownVersion {
    /// The version in the file.
    pub version: u32,
}

impl Serialize for FormatVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(Self::NUMBER)
    }
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = u32::deserialize(deserializer)?;
        match Self::is_current(Some(version)) {
            Ok(_) => Ok(FormatVersion),
            Err(unknown) => Err(serde::de::Error::custom(unknown)),
        }
    }
}

/// A strategy as files write it: `{ "ulysses": 4, "ring": 1, "activations": "recompute" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StrategyFields", into = "StrategyFields")]
pub struct StrategyRecord(pub Strategy);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyFields {
    ulysses: u32,
    ring: u32,
    activations: ActivationsName,
}

impl From<StrategyRecord> for StrategyFields {
    fn from(StrategyRecord(strategy): StrategyRecord) -> Self {
        StrategyFields {
            ulysses: strategy.ulysses_degree().get(),
            ring: strategy.ring_degree().get(),
            activations: ActivationsName(strategy.activations()),
        }
    }
}

impl TryFrom<StrategyFields> for StrategyRecord {
    type Error = CoreError;

    fn try_from(fields: StrategyFields) -> Result<Self, CoreError> {
        let (ulysses, ring) = (Degree::new(fields.ulysses)?, Degree::new(fields.ring)?);
        Strategy::new(ulysses, ring, fields.activations.0).map(StrategyRecord)
    }
}

/// The treatment of activations as files write it: `"keep"`, `"recompute"` or `"host"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationsName(pub Activations);

impl Serialize for ActivationsName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for ActivationsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map(ActivationsName)
            .map_err(serde::de::Error::custom)
    }
}

/// How the ranks of a group get at each other's tokens, as files write it: `"ulysses"`, `"ring"`, or `"ulysses x ring 4"` for
/// rings of four places whose ranks exchange tokens for heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeName(pub Exchange);

impl Serialize for ExchangeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExchangeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let places = || {
            let places = name.strip_prefix("ulysses x ring ")?.parse().ok();
            let ring = places.and_then(|places| Degree::new(places).ok());
            ring.filter(|&ring| ring > Degree::ONE)
        };
        let exchange = match name.as_str() {
            "ulysses" => Some(Exchange::Ulysses),
            "ring" => Some(Exchange::Ring),
            _ => places().map(|ring| Exchange::UlyssesRing { ring }),
        };
        exchange.map(ExchangeName).ok_or_else(|| {
            let rule =
                r#"it can be "ulysses", "ring", or "ulysses x ring N" with N places, 2 or more"#;
            serde::de::Error::custom(format!("exchange is {name:?}; {rule}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> Result<Strategy, String> {
        let record: Result<StrategyRecord, _> = toml::from_str(record);
        let record = record.map_err(|error| error.message().to_owned())?;
        Ok(record.0)
    }

    #[test]
    fn strategies_are_read_back_as_they_were_written() {
        for (ulysses, ring) in [(1, 1), (3, 1), (1, 4), (4, 2)] {
            for activations in Activations::ALL {
                let degree = |degree| Degree::new(degree).unwrap();
                let strategy = Strategy::new(degree(ulysses), degree(ring), activations).unwrap();
                let text = toml::to_string(&StrategyRecord(strategy)).unwrap();
                assert_eq!(read(&text), Ok(strategy));
            }
        }
    }

    #[test]
    fn ways_to_exchange_are_read_back_as_they_were_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Entry {
            exchange: ExchangeName,
        }
        let ring = Degree::new(4).unwrap();
        for exchange in [
            Exchange::Ulysses,
            Exchange::Ring,
            Exchange::UlyssesRing { ring },
        ] {
            let entry = Entry {
                exchange: ExchangeName(exchange),
            };
            let text = toml::to_string(&entry).unwrap();
            assert_eq!(toml::from_str(&text), Ok(entry));
        }
        for name in [
            "rings",
            "ulysses x ring 1",
            "ulysses x ring",
            "ulysses x ring 0",
        ] {
            let read = toml::from_str::<Entry>(&format!("exchange = {name:?}"));
            let error = read.unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn what_is_no_strategy_is_refused_by_name() {
        for (record, complaint) in [
            (
                "ulysses = 0\nring = 1\nactivations = \"keep\"",
                "degree 0 is not allowed",
            ),
            (
                "ulysses = 70000\nring = 70000\nactivations = \"keep\"",
                "more than a degree can be",
            ),
            (
                "ulysses = 1\nring = 1\nactivations = \"offload\"",
                "\"offload\" is no choice for activations",
            ),
            (
                "ulysses = 1\nactivations = \"keep\"",
                "missing field `ring`",
            ),
            ("ulysses = 1\nring = 1\nrecompute = true", "`recompute`"),
        ] {
            let error = read(record).unwrap_err();
            assert!(error.contains(complaint), "{record:?}: {error}");
        }
    }

    #[test]
    fn files_of_a_later_version_are_refused() {
        assert_eq!(FormatVersion::is_current(None), Ok(false));
        assert_eq!(FormatVersion::is_current(Some(1)), Ok(true));
        assert_eq!(
            FormatVersion::is_current(Some(2)).unwrap_err().to_string(),
            "version is 2; this build reads version 1, and files from before there were versions"
        );
    }

    #[test]
    fn a_version_is_read_as_it_was_written_and_no_other() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            version: FormatVersion,
        }
        let file = File {
            version: FormatVersion,
        };
        let text = toml::to_string(&file).unwrap();
        assert_eq!(text, "version = 1\n");
        assert_eq!(toml::from_str(&text), Ok(file));
        for version in ["0", "2", "-1", "4294967297", "'1'", "1.0"] {
            let read = toml::from_str::<File>(&format!("version = {version}"));
            assert!(read.is_err(), "{version} was read");
        }
        let error = toml::from_str::<File>("version = 2").unwrap_err();
        assert!(error.message().contains("version is 2"), "{error}");
    }
}
