//! Batches of documents whose lengths arrive one by one, as Python has them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lengthwise_core::Tokens;
use lengthwise_data::{BatchStream as DataStream, StreamPosition};
use pyo3::prelude::*;

use crate::batch_arguments::WrittenBatches;
use crate::census::Census;
use crate::scheduled_batch::ScheduledBatch;
use crate::values;

/// Which sequences make which batch, in the order in which documents arrive.
///
/// Parameters
/// ----------
/// context : int or str
///     The longest sequence in tokens.
/// overlong : str, default "split"
///     What becomes of longer documents: "split", "truncate" or "skip".
/// min_tokens : int or str, default 1
///     The shortest sequence.
/// tokens : int or str, optional
///     The most tokens of a batch; a single sequence may exceed it.
/// sequences : int, optional
///     The number of sequences of a batch, in place of `tokens`.
/// num_documents : int, default 0
///     Documents that are drawn already: the next one has this number.
/// num_pieces : int, default 0
///     Sequences of that one that are drawn already.
///
/// Raises
/// ------
/// InputError, InputTypeError
///     An argument that can't be used.
#[pyclass(frozen, module = "lengthwise._lengthwise")]
pub(crate) struct BatchStream(Mutex<DataStream>);

impl BatchStream {
    fn lock(&self) -> MutexGuard<'_, DataStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl BatchStream {
    #[new]
    #[pyo3(signature = (
        *,
        context,
        overlong = None,
        min_tokens = None,
        tokens = None,
        sequences = None,
        num_documents = 0,
        num_pieces = 0,
    ), text_signature = "(*, context, overlong=\"split\", min_tokens=1, tokens=None, sequences=None, num_documents=0, num_pieces=0)")]
    fn new(
        context: &Bound<'_, PyAny>,
        overlong: Option<&Bound<'_, PyAny>>,
        min_tokens: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
        sequences: Option<&Bound<'_, PyAny>>,
        num_documents: u64,
        num_pieces: u64,
    ) -> PyResult<Self> {
        let written = WrittenBatches {
            context,
            overlong,
            min_tokens,
            tokens,
            sequences,
        };
        let (rule, size) = written.read()?;
        let position = StreamPosition {
            num_documents,
            num_pieces,
        };
        let stream = DataStream::starting_at(rule, size, position);
        Ok(BatchStream(Mutex::new(stream)))
    }

    /// Add the next document.
    ///
    /// Parameters
    /// ----------
    /// num_tokens : int
    ///     Its length; a document of 0 tokens is left out.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     No number of tokens.
    #[pyo3(signature = (num_tokens, /))]
    fn push(&self, num_tokens: &Bound<'_, PyAny>) -> PyResult<()> {
        let num_tokens = values::whole_within("num_tokens", num_tokens, 0, u64::MAX)?;
        self.lock().push(Tokens(num_tokens));
        Ok(())
    }

    /// Say that there are no more documents: the last batch need not be full.
    fn end(&self) {
        self.lock().end();
    }

    /// Return the next batch.
    ///
    /// Returns
    /// -------
    /// ScheduledBatch or None
    ///     None until it is known that no further document belongs to it.
    fn take(&self) -> Option<ScheduledBatch> {
        let mut stream = self.lock();
        let batch = stream.take()?;
        let StreamPosition {
            num_documents,
            num_pieces,
        } = stream.position();
        Some(ScheduledBatch {
            batch,
            position: (num_documents, num_pieces),
        })
    }

    /// Census: What the documents so far became.
    #[getter]
    fn census(&self) -> Census {
        Census(*self.lock().census())
    }

    /// int: The longest sequence allowed, in tokens.
    #[getter]
    fn context(&self) -> u64 {
        self.lock().rule().context.0
    }

    /// str: What becomes of longer documents.
    #[getter]
    fn overlong(&self) -> String {
        self.lock().rule().overlong.to_string()
    }

    /// int: The shortest sequence allowed, in tokens.
    #[getter]
    fn min_tokens(&self) -> u64 {
        self.lock().rule().min_tokens.0
    }

    fn __repr__(&self) -> String {
        let num_documents = self.lock().census().num_documents;
        format!("BatchStream({num_documents} documents so far)")
    }
}
