//! How a group shares its sequences.

use lengthwise_core::Strategy as CoreStrategy;
use pyo3::prelude::*;

/// How the ranks of a group share each of their sequences, and what they do with activations.
#[pyclass(frozen, eq, hash, module = "lengthwise")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Strategy(pub(crate) CoreStrategy);

#[pymethods]
impl Strategy {
    /// int: The number of ranks, `ulysses * ring`.
    #[getter]
    fn degree(&self) -> u32 {
        self.0.degree().get()
    }

    /// int: The part of the degree that exchanges tokens for heads by all-to-all.
    #[getter]
    fn ulysses(&self) -> u32 {
        self.0.ulysses_degree().get()
    }

    /// int: The part of the degree that passes key/value blocks around.
    #[getter]
    fn ring(&self) -> u32 {
        self.0.ring_degree().get()
    }

    /// str: What is done with activations: "keep", "recompute" or "host".
    #[getter]
    fn activations(&self) -> &'static str {
        self.0.activations().name()
    }

    fn __repr__(&self) -> String {
        let (ulysses, ring, activations) = (self.ulysses(), self.ring(), self.activations());
        format!("Strategy(ulysses={ulysses}, ring={ring}, activations='{activations}')")
    }
}
