//! Sequence lengths as corpora have them: distributions in small files, seeded draws from them, and lengths from elsewhere.

mod distribution;
mod source;

pub(crate) use distribution::{Draw, LengthDistribution};
pub(crate) use source::LengthSource;
