//! The sequences of a step before they are read, as Python has them.

use lengthwise_data::{BatchOrigin, ScheduledBatch as DataBatch};
use pyo3::prelude::*;

/// Which tokens of which documents make a batch.
#[pyclass(frozen, eq, module = "lengthwise._lengthwise")]
#[derive(PartialEq, Eq)]
pub(crate) struct ScheduledBatch {
    pub(crate) batch: DataBatch,
    /// Of the schedule or stream, after this batch.
    pub(crate) position: (u64, u64),
}

impl ScheduledBatch {
    fn origin(&self) -> &BatchOrigin {
        &self.batch.origin
    }
}

#[pymethods]
impl ScheduledBatch {
    /// list of (int, int, int): For each sequence the document, its first token and the one after its last.
    #[getter]
    fn excerpts(&self) -> Vec<(u64, u64, u64)> {
        let excerpts = self.batch.excerpts.iter();
        excerpts
            .map(|each| (each.document, each.tokens.start, each.tokens.end))
            .collect()
    }

    /// list of int: The length of each sequence in tokens.
    #[getter]
    fn seq_lens(&self) -> Vec<u64> {
        let excerpts = self.batch.excerpts.iter();
        excerpts.map(|each| each.seq_len().0).collect()
    }

    /// tuple of (int, int): Where the schedule or stream goes on after this batch.
    #[getter]
    fn position(&self) -> (u64, u64) {
        self.position
    }

    /// int: The epoch of its last sequence, counted from 1; 0 for a stream.
    #[getter]
    fn epoch(&self) -> u64 {
        self.origin().epoch
    }

    /// int: Sequences that are pieces of a longer document.
    #[getter]
    fn num_pieces(&self) -> u64 {
        self.origin().num_pieces
    }

    /// int: Sequences that are the beginning of a document whose rest is never trained on.
    #[getter]
    fn num_truncated(&self) -> u64 {
        self.origin().num_truncated
    }

    /// int: The tokens of those rests.
    #[getter]
    fn num_cut_tokens(&self) -> u64 {
        self.origin().num_cut_tokens
    }

    fn __repr__(&self) -> String {
        let excerpts = &self.batch.excerpts;
        let num_tokens: u64 = excerpts.iter().map(|each| each.seq_len().0).sum();
        let num_sequences = excerpts.len();
        format!("ScheduledBatch({num_sequences} sequences, {num_tokens} tokens)")
    }
}
