//! Sequence lengths as corpora have them: distributions in small files, and seeded draws from them.

mod distribution;

pub(crate) use distribution::{Draw, LengthDistribution};
