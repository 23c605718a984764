//! The widths of vectors that a CPU can compute with.

use std::fmt;
use std::str::FromStr;

/// The vectors of the CPU backend's own loops.
///
/// Matrix products of linear maps are `gemm`'s, which always takes the widest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorWidth {
    /// One element at a time.
    Scalar,
    /// 8 elements: AVX2 and FMA.
    Avx2,
    /// 16 elements: AVX-512.
    Avx512,
}

impl VectorWidth {
    /// All widths, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];
}

impl FromStr for VectorWidth {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let width = Self::ALL.iter().find(|width| width.to_string() == name);
        width.copied().ok_or(())
    }
}

impl fmt::Display for VectorWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}
