//! Figures by degree as files write them: a table whose keys are degrees.

use std::collections::BTreeMap;

use lengthwise_core::Degree;
use serde::{Deserialize, Serialize};

/// Positive figures by degree: `{ 2 = 8e9, 4 = 6e9 }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct PerDegree(BTreeMap<Degree, f64>);

impl PerDegree {
    /// A table of these figures, which must be finite and above 0 where the table is to be written to a file.
    pub fn new(figures: impl IntoIterator<Item = (Degree, f64)>) -> Self {
        PerDegree(figures.into_iter().collect())
    }

    /// Whether it has no figure.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The degrees with their figures, increasing.
    pub fn iter(&self) -> impl Iterator<Item = (Degree, f64)> + '_ {
        self.0.iter().map(|(&degree, &figure)| (degree, figure))
    }
}

impl TryFrom<BTreeMap<String, f64>> for PerDegree {
    type Error = String;

    fn try_from(table: BTreeMap<String, f64>) -> Result<Self, String> {
        let entry = |(key, figure): (String, f64)| {
            let degree: u32 = key
                .parse()
                .map_err(|_| format!("{key:?} is not a degree; the keys are whole numbers"))?;
            let degree = Degree::new(degree).map_err(|error| error.to_string())?;
            if figure.is_finite() && figure > 0.0 {
                Ok((degree, figure))
            } else {
                Err(format!(
                    "degree {degree} has {figure}; it must be finite and above 0"
                ))
            }
        };
        Ok(PerDegree(
            table.into_iter().map(entry).collect::<Result<_, _>>()?,
        ))
    }
}

impl From<PerDegree> for BTreeMap<String, f64> {
    fn from(table: PerDegree) -> Self {
        let entries = table.0.into_iter();
        entries
            .map(|(degree, figure)| (degree.to_string(), figure))
            .collect()
    }
}
