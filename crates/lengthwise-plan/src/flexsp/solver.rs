//! The choice of a MILP solver.

/// A solver of mixed-integer linear programmes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MilpSolver {
    /// Written in Rust, always there.
    #[default]
    Microlp,
    /// HiGHS, on one thread; there with the cargo feature `highs`, which needs CMake, a C++ compiler and libclang.
    #[cfg(feature = "highs")]
    Highs,
}
