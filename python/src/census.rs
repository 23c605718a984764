//! What documents become, as Python has it.

use lengthwise_data::Census as DataCensus;
use pyo3::prelude::*;

/// What the documents of a data set become in one epoch, and what is lost.
#[pyclass(frozen, eq, module = "lengthwise._lengthwise")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census(pub(crate) DataCensus);

#[pymethods]
impl Census {
    /// int: Documents.
    #[getter]
    fn num_documents(&self) -> u64 {
        self.0.num_documents
    }

    /// int: Documents without a token, left out.
    #[getter]
    fn num_empty(&self) -> u64 {
        self.0.num_empty
    }

    /// int: Documents longer than the context that were split.
    #[getter]
    fn num_split(&self) -> u64 {
        self.0.num_split
    }

    /// int: Documents of which only the beginning is left.
    #[getter]
    fn num_truncated(&self) -> u64 {
        self.0.num_truncated
    }

    /// int: The tokens that they lost.
    #[getter]
    fn num_cut_tokens(&self) -> u64 {
        self.0.num_cut_tokens
    }

    /// int: Documents that were left out for their length.
    #[getter]
    fn num_skipped(&self) -> u64 {
        self.0.num_skipped
    }

    /// int: Their tokens.
    #[getter]
    fn num_skipped_tokens(&self) -> u64 {
        self.0.num_skipped_tokens
    }

    /// int: Sequences that were left out because they are too short.
    #[getter]
    fn num_short(&self) -> u64 {
        self.0.num_short
    }

    /// int: Their tokens.
    #[getter]
    fn num_short_tokens(&self) -> u64 {
        self.0.num_short_tokens
    }

    /// int: Sequences.
    #[getter]
    fn num_sequences(&self) -> u64 {
        self.0.num_sequences
    }

    /// int: Their tokens.
    #[getter]
    fn num_tokens(&self) -> u64 {
        self.0.num_tokens
    }

    fn __repr__(&self) -> String {
        let DataCensus {
            num_documents,
            num_sequences,
            num_tokens,
            ..
        } = self.0;
        format!("Census({num_documents} documents, {num_sequences} sequences, {num_tokens} tokens)")
    }
}
